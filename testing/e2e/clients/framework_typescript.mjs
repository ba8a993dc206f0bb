// Agent frameworks for TypeScript in front of a gateway. A scripted model asks for tool calls, and the script prints
// what the framework tells the model after the last one. Arguments: the folder of the installed packages, the
// framework, the calls as JSON, the URL of the gateway.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, framework, operations, url] = process.argv.slice(2);
const require = createRequire(`${folder}/package.json`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const LIMIT_MILLISECONDS = 60_000;

/** The text that a model reads of the output of a tool, in the form of the AI SDK's language model interface. */
function textOf(output) {
  switch (output.type) {
    case "text":
    case "error-text":
      return output.value;
    case "content":
      return output.value.map((block) => block.text ?? JSON.stringify(block)).join("\n");
    default:
      return JSON.stringify(output.value ?? output);
  }
}

/** A model that asks for one call after the other, in the AI SDK's language model interface, version 3. */
function scripted(calls, told) {
  const answer = (prompt) => {
    const results = prompt.filter((message) => message.role === "tool").flatMap((message) => message.content);
    const outputs = results.filter((part) => part.type === "tool-result").map((part) => textOf(part.output));
    told.splice(0, told.length, ...outputs);
    const call = calls[outputs.length];
    const content = call
      ? { type: "tool-call", toolCallId: `c${outputs.length}`, toolName: call.tool, input: JSON.stringify(call.arguments) }
      : { type: "text", text: "done" };
    const reason = call ? "tool-calls" : "stop";
    return {
      content: [content],
      finishReason: { unified: reason, raw: reason },
      usage: { inputTokens: { total: 1 }, outputTokens: { total: 1 } },
      warnings: [],
    };
  };
  return {
    specificationVersion: "v3",
    provider: "scripted",
    modelId: "scripted",
    supportedUrls: {},
    doGenerate: async ({ prompt }) => answer(prompt),
    doStream: async ({ prompt }) => {
      const { content, finishReason, usage } = answer(prompt);
      const text = (part) => [
        { type: "text-start", id: "t" },
        { type: "text-delta", id: "t", delta: part.text },
        { type: "text-end", id: "t" },
      ];
      const parts = content.flatMap((part) => (part.type === "text" ? text(part) : [part]));
      const events = [{ type: "stream-start", warnings: [] }, ...parts, { type: "finish", finishReason, usage }];
      return { stream: ReadableStream.from(events) };
    },
  };
}

async function aiSdk(calls, told) {
  const { createMCPClient } = await load("@ai-sdk/mcp");
  const { generateText, stepCountIs } = await load("ai");
  const client = await createMCPClient({ transport: { type: "http", url } });
  try {
    const tools = await client.tools();
    await generateText({ model: scripted(calls, told), tools, prompt: "go", stopWhen: stepCountIs(calls.length + 1), maxRetries: 0 });
  } finally {
    await client.close();
  }
}

async function mastra(calls, told) {
  const { MCPClient } = await load("@mastra/mcp");
  const { Agent } = await load("@mastra/core/agent");
  const client = new MCPClient({ id: crypto.randomUUID(), servers: { gateway: { url: new URL(url) } }, timeout: 30_000 });
  try {
    const tools = await client.listTools();
    const agent = new Agent({ id: "agent", name: "agent", instructions: "go", model: scripted(calls, told), tools });
    // Mastra puts the name of the server before the names of its tools.
    for (const call of calls) call.tool = `gateway_${call.tool}`;
    await agent.generate("go", { maxSteps: calls.length + 1, modelSettings: { maxRetries: 0 } });
  } finally {
    await client.disconnect();
  }
}

const FRAMEWORKS = { "ai-sdk": aiSdk, mastra };

async function run(calls) {
  const told = [];
  let timer;
  const late = new Promise((_, refuse) => {
    timer = setTimeout(() => refuse(new Error("it does not end")), LIMIT_MILLISECONDS);
  });
  try {
    await Promise.race([FRAMEWORKS[framework](calls, told), late]);
  } catch (error) {
    return `the run ends: ${error.name}: ${error.message}`;
  } finally {
    clearTimeout(timer);
  }
  return told.at(-1) ?? "nothing";
}

// The frameworks log to the standard output.
const print = console.log.bind(console);
for (const name of ["log", "info", "debug", "warn"]) console[name] = console.error;
const results = [];
for (const calls of JSON.parse(operations)) results.push(await run(calls));
print(JSON.stringify(results));
process.exit(0);
