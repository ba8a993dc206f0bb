// The official TypeScript SDK, version 1 or 2, and refusals: each operation on a connection of its own, then a list on the
// same one. Prints for each what was said and whether the list came. Arguments: the folder the package is installed in,
// the version, the operations as JSON, URL, revision.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, version, operations, url, revision] = process.argv.slice(2);
// The package is installed elsewhere, so its name is resolved from there.
const require = createRequire(`${folder}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const info = { name: "vmcp-e2e", version: "1.0.0" };

async function connect() {
  if (version === "1") {
    const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const client = new Client(info);
    await client.connect(new StreamableHTTPClientTransport(new URL(url)));
    return client;
  }
  const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
  const mode = revision === "2026-07-28" ? { pin: revision } : "legacy";
  const client = new Client(info, { versionNegotiation: { mode } });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  return client;
}

async function operate(client, { do: kind, what, arguments: args = {} }) {
  switch (kind) {
    case "call":
      return client.callTool({ name: what, arguments: args });
    case "call_twice":
      await client.callTool({ name: what, arguments: args });
      return client.callTool({ name: what, arguments: args });
    case "read":
      return client.readResource({ uri: what });
    case "prompt":
      return client.getPrompt({ name: what });
    case "complete":
      return client.complete({ ref: { type: "ref/prompt", name: what }, argument: { name: "a", value: "b" } });
    case "list":
      return client.listTools({ cursor: what });
    case "ping":
      return client.ping();
    default:
      throw new Error(kind);
  }
}

const findings = [];
for (const operation of JSON.parse(operations)) {
  const client = await connect();
  let said;
  try {
    const result = await operate(client, operation);
    said = result?.isError ? `failed result: ${result.content[0].text}` : "a result";
  } catch (error) {
    said = `${error.name}: ${error.message}`;
  }
  let lives = false;
  try {
    lives = (await client.listTools()).tools.length > 0;
  } catch {
    lives = false;
  }
  findings.push({ said, lives });
  await client.close().catch(() => {});
}
console.log(JSON.stringify(findings));
process.exit(0);
