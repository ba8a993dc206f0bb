// The world of a script. The worker calls this function once, before the script runs. `host` has what Rust provides,
// `names` are the exact names of the tools, `data` is the object that the caller sent.
(function (host, names, data) {
  "use strict";
  const { create, defineProperty, keys, hasOwn } = Object;
  // Half a character has no UTF-8.
  const toWellFormed = Function.prototype.call.bind(String.prototype.toWellFormed);
  const wellFormed = (value) => toWellFormed(String(value));
  const known = new Set(names);

  class ToolError extends Error {
    constructor(message, fields) {
      super(message);
      this.name = "ToolError";
      for (const key of keys(fields)) {
        if (fields[key] !== undefined && fields[key] !== null) this[key] = fields[key];
      }
    }
  }

  function unknown(name) {
    const wanted = wellFormed(name);
    const near = host.nearest(wanted);
    return `no tool "${wanted}"` + (near ? `; did you mean "${near}"?` : "");
  }

  function requireObject(value, what) {
    if (value === undefined || value === null) return {};
    if (typeof value !== "object" || Array.isArray(value)) throw new TypeError(`${what} must be an object`);
    return value;
  }

  const itemMembers = { text: ["text"], image: ["data", "mimeType"], audio: ["data", "mimeType"], resource_link: ["uri", "name"], resource: [] };

  // A content item that clients accept (Tools, "Tool Result"). The gateway checks the type again.
  function requireItem(item) {
    const { type } = requireObject(item, "a content item");
    if (!hasOwn(itemMembers, type)) throw new TypeError(`a content item needs a type: ${keys(itemMembers).join(", ")}`);
    for (const name of itemMembers[type]) {
      if (typeof item[name] !== "string") throw new TypeError(`a content item of this type needs the text "${name}"`);
    }
    if (type === "resource") {
      const { uri, text, blob } = requireObject(item.resource, "the resource of a content item");
      if (typeof uri !== "string" || (typeof text !== "string" && typeof blob !== "string")) {
        throw new TypeError('the resource of a content item needs the text "uri", and "text" or "blob"');
      }
    }
    return item;
  }

  // An error of a tool is created after a wait, when the stack no longer has the place of the call. `site` is it.
  async function called(name, args, site) {
    if (!known.has(name)) throw new Error(unknown(name));
    const promise = host.call(name, requireObject(args, "the arguments of a tool"));
    try {
      return await promise;
    } catch (error) {
      error.stack = site;
      throw error;
    }
  }

  function callToolRaw(name, args) {
    return called(name, args, new Error().stack);
  }

  function valueOf(result, tool, site) {
    const content = Array.isArray(result.content) ? result.content : [];
    if (result.isError) {
      const first = content.find((item) => item.type === "text");
      const error = new ToolError(first ? first.text : "the tool failed without a text", { tool, result });
      error.stack = site;
      throw error;
    }
    const structured = result.structuredContent;
    if (structured !== undefined && structured !== null) {
      const members = keys(structured);
      return members.length === 1 && members[0] === "result" ? structured.result : structured;
    }
    if (content.length !== 1 || content[0].type !== "text") return content;
    const parsed = host.parse(content[0].text);
    return parsed === undefined ? content[0].text : parsed;
  }

  async function callTool(name, args) {
    const site = new Error().stack;
    return valueOf(await called(name, args, site), name, site);
  }

  // Tools by their exact names and, where it is an identifier of one tool only, by the name with `_` for other characters.
  function table() {
    const byName = create(null);
    const sharing = create(null);
    for (const name of names) byName[name] = (args) => callTool(name, args);
    for (const name of names) {
      const identifier = name.replace(/[^A-Za-z0-9_]/g, "_").replace(/^(?=[0-9])/, "_");
      if (!known.has(identifier)) (sharing[identifier] ??= []).push(name);
    }
    const clashes = create(null);
    for (const identifier of keys(sharing)) {
      const [first, second] = sharing[identifier];
      if (second === undefined) byName[identifier] = byName[first];
      else clashes[identifier] = `"${first}" and "${second}" are both called ${identifier}; use tools["${first}"]`;
    }
    return new Proxy(byName, {
      get(target, key) {
        if (typeof key === "symbol") return undefined;
        const tool = target[key];
        if (tool !== undefined) return tool;
        if (clashes[key] !== undefined) throw new Error(clashes[key]);
        // The language itself looks for these.
        if (key === "then" || key === "toJSON") return undefined;
        throw new Error(unknown(key));
      },
      set() {
        throw new TypeError("tools cannot be changed");
      },
    });
  }

  function text(value) {
    return typeof value === "string" ? wellFormed(value) : host.show(value);
  }

  const log = (...values) => host.log(values.map(text).join(" "));
  const world = {
    tools: table(),
    callTool,
    callToolRaw,
    ToolError,
    data,
    findTools: async (query, limit) => host.findTools(wellFormed(query), limit === undefined ? limit : Number(limit)),
    describeTool: async (name) => host.describeTool(wellFormed(name)),
    ask: async (message, schema) => host.ask(wellFormed(message), schema),
    sleep: async (ms) => host.sleep(Number(ms)),
    progress: (message, done, total) => host.progress(wellFormed(message), done, total),
    emit: (item) => host.emit(requireItem(item)),
    console: { log, info: log, warn: log, error: log, debug: log },
  };
  for (const name of keys(data)) {
    if (/^[A-Za-z_$][A-Za-z0-9_$]*$/.test(name) && !(name in globalThis) && !(name in world)) world[name] = data[name];
  }
  for (const name of keys(world)) {
    defineProperty(globalThis, name, { value: world[name], writable: true, configurable: true, enumerable: false });
  }

  // What takes the place of an object in a JSON text.
  function plain(value) {
    if (typeof value.toJSON === "function") return value.toJSON("");
    if (value instanceof Map) throw new TypeError("a Map; write Object.fromEntries(map)");
    if (value instanceof Set) throw new TypeError("a Set; write Array.from(set)");
    if (value instanceof Promise) throw new TypeError("a promise; write await before it");
    if (value instanceof Error) return { name: value.name, message: value.message };
    if (value instanceof RegExp) return String(value);
    if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return Array.from(value);
    return value;
  }

  // The value of a script: what it returns, or its last expression. A script that is one function is called.
  async function finish(promise, isWrapped) {
    const settled = await promise;
    const value = isWrapped ? settled.value : settled;
    return typeof value === "function" ? value() : value;
  }

  return { plain, wellFormed, finish, toolError: (message, fields) => new ToolError(message, fields) };
});
