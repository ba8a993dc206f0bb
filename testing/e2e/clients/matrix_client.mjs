// The official TypeScript SDK's client tries every feature of a matrix server, directly or through a gateway.
//
// Arguments: the folder the SDK is installed in; a URL, or the gateway's program and its configuration with `::` between,
// which is then started and spoken to over its standard streams; the protocol family (session or stateless); and a prefix of the tools'
// names, which may be empty. For each feature one line of JSON is printed: its name, whether it works, and what was seen where
// it does not.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, url, era, prefix = ""] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
const { StdioClientTransport } = await load("@modelcontextprotocol/client/stdio");

const WAIT = 15_000;
const NOTE = "note://one";
const stateless = era === "stateless";
const seen = { logs: [], changes: [] };
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const until = async (fits) => {
  for (const end = Date.now() + WAIT; !fits() && Date.now() < end; ) await pause(20);
  return fits();
};

const capabilities = { elicitation: { form: {}, url: {} }, sampling: {}, roots: { listChanged: true } };
const versionNegotiation = { mode: stateless ? { pin: "2026-07-28" } : "legacy" };
const client = new Client({ name: "matrix", version: "1" }, { capabilities, versionNegotiation });
client.setRequestHandler("elicitation/create", ({ params }) =>
  params.mode === "url" ? { action: "accept" } : { action: "accept", content: { name: "ada" } },
);
client.setRequestHandler("sampling/createMessage", () => ({
  role: "assistant",
  content: { type: "text", text: "hello from the model" },
  model: "m",
}));
client.setRequestHandler("roots/list", () => ({ roots: [{ uri: "file:///work", name: "work" }] }));
client.setNotificationHandler("notifications/message", ({ params }) => void seen.logs.push(params.data));
client.setNotificationHandler("notifications/tools/list_changed", () => void seen.changes.push("tools"));
client.setNotificationHandler("notifications/resources/updated", ({ params }) => void seen.changes.push(params.uri));

const meta = stateless ? { "io.modelcontextprotocol/logLevel": "error" } : {};
const call = async (name, given = {}, options = {}, more = {}) => {
  const params = { name: prefix + name, arguments: given, _meta: { ...meta, ...more } };
  const result = await client.callTool(params, { timeout: WAIT, ...options });
  if (result.isError) throw new Error(JSON.stringify(result));
  return result.content[0].text;
};

const listening = async (filter, what, cause) => {
  const subscription = await client.listen(filter);
  await call(cause);
  const heard = await until(() => seen.changes.includes(what));
  await subscription.close();
  return [heard, seen.changes];
};

const features = {
  async tools() {
    const names = (await client.listTools()).tools.map((tool) => tool.name);
    return [names.includes(`${prefix}echo`), names];
  },
  async call_a_tool() {
    const said = await call("echo", { text: "hello" });
    return [said === "hello", said];
  },
  async content_and_structure() {
    const result = await client.callTool({ name: `${prefix}picture`, arguments: {} });
    return [result.content[0].data === "AAEC" && result.structuredContent.wide === 1, result];
  },
  async resources() {
    const listed = (await client.listResources()).resources.map((one) => one.uri);
    const said = (await client.readResource({ uri: NOTE })).contents[0].text;
    return [listed.includes(NOTE) && said.startsWith(NOTE), [listed, said]];
  },
  async resource_templates() {
    const listed = (await client.listResourceTemplates()).resourceTemplates.map((one) => one.uriTemplate);
    const said = (await client.readResource({ uri: "memo://seven" })).contents[0].text;
    return [listed.includes("memo://{name}") && said.startsWith("memo://seven"), [listed, said]];
  },
  async prompts() {
    const { name } = (await client.listPrompts()).prompts.find((one) => one.name.endsWith("greet"));
    const said = (await client.getPrompt({ name, arguments: { who: "ada" } })).messages[0].content.text;
    return [said === "Greet ada.", said];
  },
  async completion() {
    const { name } = (await client.listPrompts()).prompts.find((one) => one.name.endsWith("greet"));
    const ref = { type: "ref/prompt", name };
    const { values } = (await client.complete({ ref, argument: { name: "who", value: "a" } })).completion;
    return [values.join() === "ada,alan", values];
  },
  async ping() {
    if (!stateless) await client.ping();
    return [true];
  },
  async progress() {
    const steps = [];
    await call("progress", {}, { onprogress: ({ progress }) => steps.push(progress) });
    return [steps.join() === "1,2,3", steps];
  },
  async log_messages() {
    if (!stateless) await client.setLoggingLevel("error");
    await call("log");
    await until(() => seen.logs.includes("loud"));
    return [seen.logs.join() === "loud", seen.logs];
  },
  async elicitation_by_form() {
    const said = JSON.parse(await call("elicit"));
    return [said.content?.name === "ada", said];
  },
  async elicitation_by_url() {
    const said = JSON.parse(await call("elicit_url"));
    return [said.action === "accept", said];
  },
  async sampling() {
    const said = JSON.parse(await call("sample"));
    return [said.content.text === "hello from the model", said];
  },
  async roots() {
    const said = JSON.parse(await call("roots"));
    return [said.roots[0].uri === "file:///work", said];
  },
  async trace_context() {
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const said = JSON.parse(await call("meta", {}, {}, { traceparent, "vendor.example/key": { a: 1 } }));
    return [said.traceparent === traceparent && said["vendor.example/key"]?.a === 1, said];
  },
  async parameters_as_headers() {
    await client.listTools();
    const said = JSON.parse(await call("region", { region: "us-west1" }));
    return [said.argument === "us-west1", said];
  },
  async cancellation() {
    const before = Number(await call("cancelled"));
    const stop = new AbortController();
    const slow = call("slow", {}, { signal: stop.signal }).catch(() => {});
    await pause(500);
    stop.abort();
    await slow;
    let after = before;
    for (const end = Date.now() + WAIT; after <= before && Date.now() < end; ) {
      after = Number(await call("cancelled"));
      await pause(50);
    }
    return [after === before + 1, [before, after]];
  },
  async list_changes() {
    if (stateless) return listening({ toolsListChanged: true }, "tools", "grow");
    await pause(500);
    await call("grow");
    return [await until(() => seen.changes.includes("tools")), seen.changes];
  },
  async resource_updates() {
    if (stateless) return listening({ resourceSubscriptions: [NOTE] }, NOTE, "touch");
    await client.subscribeResource({ uri: NOTE });
    await call("touch");
    const heard = await until(() => seen.changes.includes(NOTE));
    await client.unsubscribeResource({ uri: NOTE });
    return [heard, seen.changes];
  },
};

const [command, config] = url.split("::");
const transport = config
  ? new StdioClientTransport({ command, args: ["stdio", "-c", config], stderr: "ignore" })
  : new StreamableHTTPClientTransport(new URL(url));
await client.connect(transport);
for (const [feature, attempt] of Object.entries(features)) {
  const [ok, detail] = await attempt().catch((error) => [false, `${error.name}: ${error.message}`]);
  console.log(JSON.stringify({ feature, ok, detail: ok ? "" : JSON.stringify(detail).slice(0, 600) }));
}
await client.close();
process.exit(0);
