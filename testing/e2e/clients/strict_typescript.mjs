// The official TypeScript SDK, version 1 or 2: lists everything, calls each tool, prints what it saw as JSON. Arguments: the
// folder the package is installed in, the version, URL.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, version, url] = process.argv.slice(2);
// The package is installed elsewhere, so its name is resolved from there.
const require = createRequire(`${folder}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const info = { name: "vmcp-e2e", version: "1.0.0" };
let client, Transport;
if (version === "1") {
  const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
  ({ StreamableHTTPClientTransport: Transport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js"));
  client = new Client(info);
} else {
  const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
  Transport = StreamableHTTPClientTransport;
  client = new Client(info, { versionNegotiation: { mode: "legacy" } });
}
await client.connect(new Transport(new URL(url)));
const { tools } = await client.listTools();
const { prompts } = await client.listPrompts();
const { resources } = await client.listResources();
const answers = {};
for (const { name } of tools) {
  const { content } = await client.callTool({ name, arguments: { text: "hello" } });
  answers[name] = content[0].text;
}
console.log(
  JSON.stringify({
    tools: tools.map(({ name }) => name),
    prompts: prompts.map(({ name }) => name),
    resources: resources.map(({ uri }) => uri),
    answers,
  }),
);
await client.close();
