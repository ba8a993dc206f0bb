// A server of the official TypeScript SDK that has every feature of the protocol, in both protocol families.
//
// Arguments: the folder the SDK is installed in, `http` or `stdio`, and `both` or `session` (which knows the handshake
// only). Over HTTP the line `matrix server: URL` is printed. Tools are named as in matrix_server.py, so that one client
// fits both.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";
import { pathToFileURL } from "node:url";

const [folder, transport, era] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { Server, createMcpHandler, inputRequired, isLegacyRequest } = await load("@modelcontextprotocol/server");
const { serveStdio, StdioServerTransport } = await load("@modelcontextprotocol/server/stdio");
const { NodeStreamableHTTPServerTransport, toNodeHandler, toWebRequest } = await load("@modelcontextprotocol/node");

const STATELESS = "2026-07-28";
const NOTE = "note://one";
const NAMES = ["echo", "progress", "log", "elicit", "elicit_url", "sample", "roots", "slow", "cancelled", "meta", "region"];
NAMES.push("grow", "touch", "picture");
const SCHEMAS = {
  echo: { type: "object", properties: { text: { type: "string" } } },
  region: { type: "object", properties: { region: { type: "string", "x-mcp-header": "Region" } } },
};

const state = { cancelled: 0, grown: 0, version: 0 };
// Servers of sessions that subscribed to the note, and every one there is; how 2026-07-28 is told.
const followers = new Set();
const everyone = new Set();
let notify = { toolsChanged() {}, resourceUpdated() {} };

const text = (value) => ({ content: [{ type: "text", text: typeof value === "string" ? value : JSON.stringify(value) }] });
const tell = (whom, how) => Promise.allSettled([...whom].map(how));

// The answer to a question, whichever way this revision asks it.
const ask = async (ctx, modern, key, question, asked) => {
  if (!modern) return asked();
  const answer = ctx.mcpReq.inputResponses?.[key];
  return answer ?? inputRequired({ inputRequests: { [key]: question }, requestState: "asked" });
};

const slow = (ctx) =>
  new Promise((done, failed) => {
    const timer = setTimeout(() => done(text("slept")), 60_000);
    ctx.mcpReq.signal.addEventListener("abort", () => {
      clearTimeout(timer);
      state.cancelled += 1;
      failed(new Error("cancelled"));
    });
  });

const call = async (server, modern, { name, arguments: given = {} }, ctx) => {
  const form = {
    mode: "form",
    message: "who?",
    requestedSchema: { type: "object", properties: { name: { type: "string" } }, required: ["name"] },
  };
  const visit = { mode: "url", message: "visit", url: "https://example.com/visit" };
  const messages = [{ role: "user", content: { type: "text", text: "say hello" } }];
  const sampling = { messages, maxTokens: 10 };
  let answer;
  switch (name) {
    case "echo":
      return text(given.text ?? "");
    case "picture":
      return { content: [{ type: "image", data: "AAEC", mimeType: "image/png" }], structuredContent: { wide: 1.0 } };
    case "region":
      return text({ argument: given.region, header: ctx.http?.req?.headers.get("mcp-param-region") ?? null });
    case "progress":
      for (let step = 1; step <= 3; step += 1) {
        const progressToken = ctx.mcpReq._meta?.progressToken;
        if (progressToken === undefined) break;
        const params = { progressToken, progress: step, total: 3 };
        await ctx.mcpReq.notify({ method: "notifications/progress", params });
        // The TypeScript client over stdio loses what arrives in one read with the answer, from any server.
        await new Promise((done) => setTimeout(done, 100));
      }
      return text("done");
    case "log":
      await ctx.mcpReq.log("info", "quiet");
      await ctx.mcpReq.log("error", "loud");
      return text("logged");
    case "elicit":
      answer = await ask(ctx, modern, "who", { method: "elicitation/create", params: form }, () =>
        ctx.mcpReq.elicitInput(form),
      );
      break;
    case "elicit_url":
      answer = await ask(ctx, modern, "visit", { method: "elicitation/create", params: visit }, () =>
        ctx.mcpReq.elicitInput({ ...visit, elicitationId: "e" }),
      );
      break;
    case "sample":
      answer = await ask(ctx, modern, "model", { method: "sampling/createMessage", params: sampling }, () =>
        ctx.mcpReq.requestSampling(sampling),
      );
      break;
    case "roots":
      answer = await ask(ctx, modern, "roots", { method: "roots/list" }, () => ctx.mcpReq.send({ method: "roots/list" }));
      break;
    case "slow":
      return slow(ctx);
    case "cancelled":
      return text(String(state.cancelled));
    case "meta": {
      const { progressToken, ...kept } = ctx.mcpReq._meta ?? {};
      return text(Object.fromEntries(Object.entries(kept).filter(([key]) => !key.startsWith("io.modelcontextprotocol/"))));
    }
    case "grow":
      state.grown += 1;
      notify.toolsChanged();
      await tell(everyone, (one) => one.sendToolListChanged());
      return text("grown");
    case "touch":
      state.version += 1;
      notify.resourceUpdated(NOTE);
      await tell(followers, (one) => one.sendResourceUpdated({ uri: NOTE }));
      return text("touched");
    default:
      if (name.startsWith("grown_")) return text(name);
      throw new Error(`no tool ${name}`);
  }
  return answer.resultType === "input_required" ? answer : text(answer);
};

const build = ({ era: spoken }) => {
  const modern = spoken === "modern";
  const capabilities = {
    tools: { listChanged: true },
    resources: { subscribe: true, listChanged: true },
    prompts: {},
    completions: {},
    logging: {},
  };
  const server = new Server({ name: "matrix-typescript", version: "1" }, { capabilities, instructions: "Every feature." });
  if (!modern) everyone.add(server);
  server.onclose = () => [everyone, followers].forEach((set) => set.delete(server));
  server.setRequestHandler("tools/list", () => {
    const names = [...NAMES, ...Array.from({ length: state.grown }, (_, number) => `grown_${number}`)];
    const tool = (name) => ({ name, description: name, inputSchema: SCHEMAS[name] ?? { type: "object", properties: {} } });
    return { tools: names.map(tool) };
  });
  server.setRequestHandler("tools/call", ({ params }, ctx) => call(server, modern, params, ctx));
  server.setRequestHandler("resources/list", () => ({ resources: [{ uri: NOTE, name: "note" }] }));
  server.setRequestHandler("resources/templates/list", () => ({
    resourceTemplates: [{ uriTemplate: "memo://{name}", name: "memos" }],
  }));
  server.setRequestHandler("resources/read", ({ params: { uri } }) => ({
    contents: [{ uri, text: `${uri} at ${state.version}` }],
  }));
  server.setRequestHandler("prompts/list", () => ({
    prompts: [{ name: "greet", arguments: [{ name: "who", required: true }] }],
  }));
  server.setRequestHandler("prompts/get", ({ params }) => ({
    messages: [{ role: "user", content: { type: "text", text: `Greet ${params.arguments?.who}.` } }],
  }));
  server.setRequestHandler("completion/complete", ({ params }) => ({
    completion: { values: ["ada", "alan", "grace"].filter((name) => name.startsWith(params.argument.value)) },
  }));
  if (!modern) {
    server.setRequestHandler("resources/subscribe", () => (followers.add(server), {}));
    server.setRequestHandler("resources/unsubscribe", () => (followers.delete(server), {}));
  }
  return server;
};

const read = async (request) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  return body === "" ? undefined : JSON.parse(body);
};

const serveHttp = () => {
  const handler = createMcpHandler(build, { legacy: "reject" });
  notify = handler.notify;
  const modern = toNodeHandler(handler);
  const sessions = new Map();
  const legacy = async (request, response, body) => {
    const known = sessions.get(request.headers["mcp-session-id"]);
    if (known) return known.handleRequest(request, response, body);
    if (body?.method !== "initialize") {
      response.writeHead(request.headers["mcp-session-id"] ? 404 : 400, { "content-type": "application/json" });
      const error = { code: -32000, message: "Bad Request: no valid session" };
      return response.end(JSON.stringify({ jsonrpc: "2.0", id: null, error }));
    }
    const session = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => sessions.set(id, session),
      onsessionclosed: (id) => sessions.delete(id),
    });
    await build({ era: "legacy" }).connect(session);
    return session.handleRequest(request, response, body);
  };
  const server = createServer(async (request, response) => {
    const body = request.method === "POST" ? await read(request) : undefined;
    const isLegacy = await isLegacyRequest(await toWebRequest(request, body), body);
    if (era === "session" || isLegacy) return legacy(request, response, body);
    return modern(request, response, body);
  });
  server.listen(0, "127.0.0.1", () => console.log(`matrix server: http://127.0.0.1:${server.address().port}/mcp`));
};

if (transport === "http") {
  serveHttp();
} else if (era === "session") {
  await build({ era: "legacy" }).connect(new StdioServerTransport());
} else {
  // On one channel `sendX` of the one server is how either era is told.
  serveStdio((ctx) => {
    const server = build(ctx);
    if (ctx.era === "modern") everyone.add(server), followers.add(server);
    return server;
  });
}
