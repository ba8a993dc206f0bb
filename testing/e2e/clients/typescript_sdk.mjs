// The official TypeScript SDK, version 1, which speaks versions with sessions only: lists the tools, calls
// one, prints what it saw as JSON. Arguments: the folder the package is installed in, URL, era, the
// tool to call.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, url, , tool] = process.argv.slice(2);
// The package is installed elsewhere, so its name is resolved from there.
const require = createRequire(`${folder}/`);
const load = (name) => import(pathToFileURL(require.resolve(`@modelcontextprotocol/sdk/client/${name}`)));
const { Client } = await load("index.js");
const { StreamableHTTPClientTransport } = await load("streamableHttp.js");

const client = new Client({ name: "vmcp-e2e", version: "1.0.0" });
const transport = new StreamableHTTPClientTransport(new URL(url));
await client.connect(transport);
const { tools } = await client.listTools();
const result = await client.callTool({ name: tool, arguments: { text: "hello from a client" } });
console.log(
  JSON.stringify({
    version: transport.protocolVersion ?? null,
    tools: tools.map(({ name }) => name),
    text: result.content[0].text,
  }),
);
await client.close();
