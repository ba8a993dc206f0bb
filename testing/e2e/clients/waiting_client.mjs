// The official TypeScript SDK's client, version 2, calls one tool twice; the second call has to wait for a limit.
// Arguments: the folder the package is installed in, URL, era, the tool. Prints what progress the second call told of,
// and its answer.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, url, era, tool] = process.argv.slice(2);
const found = createRequire(`${folder}/`).resolve("@modelcontextprotocol/client");
const { Client, StreamableHTTPClientTransport } = await import(pathToFileURL(found));

const mode = era === "session" ? "legacy" : "auto";
const info = { name: "vmcp-e2e", version: "1.0.0" };
const client = new Client(info, { versionNegotiation: { mode } });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
await client.callTool({ name: tool, arguments: {} });
const told = [];
const onprogress = ({ progress, total, message }) => told.push([progress, total ?? null, message ?? null]);
const result = await client.callTool({ name: tool, arguments: {} }, { onprogress });
console.log(
  JSON.stringify({
    version: client.getNegotiatedProtocolVersion?.() ?? null,
    told,
    failed: result.isError === true,
    text: result.content[0].text,
  }),
);
await client.close();
