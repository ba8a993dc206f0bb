// The official TypeScript SDK's client, version 2: lists the tools, calls one, prints what it saw
// as JSON. Arguments: the folder the package is installed in, URL, era, the tool to call.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, url, era, tool] = process.argv.slice(2);
// The package is installed elsewhere, so its name is resolved from there.
const found = createRequire(`${folder}/`).resolve("@modelcontextprotocol/client");
const { Client, StreamableHTTPClientTransport } = await import(pathToFileURL(found));

const mode = era === "session" ? "legacy" : "auto";
const info = { name: "vmcp-e2e", version: "1.0.0" };
const client = new Client(info, { versionNegotiation: { mode } });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const { tools } = await client.listTools();
const result = await client.callTool({ name: tool, arguments: { text: "hello from a client" } });
console.log(
  JSON.stringify({
    version: client.getNegotiatedProtocolVersion?.() ?? null,
    tools: tools.map(({ name }) => name),
    text: result.content[0].text,
  }),
);
await client.close();
