//! Configs with wrong YAML or a wrong shape.

/// The title and the text of each config.
pub(super) const SHAPE: &[(&str, &str)] = &[
    ("an empty file", ""),
    ("a list in place of a map", "- name: a"),
    ("the file of a client", "{\"mcpServers\": {\"a\": {\"command\": \"npx\"}}}"),
    ("not YAML", "name: a\n  backends: []\n"),
    ("a tab", "name: a\n\tbackends: []\n"),
    ("two documents", "name: a\n---\nname: b\n"),
    ("an unknown tag", "name: !secret a\n"),
    ("an unknown anchor", "name: *a\n"),
    (
        "an alias bomb",
        "
a: &a [x, x, x, x, x, x, x, x, x, x]
b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]
c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]
d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]
e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]
",
    ),
    (
        "lists in lists",
        "name: a\nbackends: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
    ),
    ("a reference without quotes inside braces", "name: a\nbackends: [{name: b, url: ${URL}}]\n"),
    (
        "mistyped keys, and others that nobody knows",
        "
nmae: a
backend:
  - name: x
metrics: true
backends:
  - name: github
    ulr: https://example.com/mcp
    transport: sse
  - name: files
    comand: npx
    restart: always
listen: {adress: 127.0.0.1, tls: true}
aggregation:
  conflictresolution: auto
  tools: [{workload: github, exclude: true, overrides: {a: {nam: b}}}]
",
    ),
    (
        "wrong words where a few are known",
        "
name: a
backends: [{name: b, command: c, isolation: private}]
rateLimiting:
  mode: audit
  onStoreFailure: open
  anonymous: allow
  consistency: strict
  answer: {shape: text}
  shared: {maxTokens: 1, refillPeriod: 1m, mode: of}
  tools: [{name: t, mode: shaddow, perUser: {maxTokens: 1, refillPeriod: 1m}}]
",
    ),
    (
        "keys of the Kubernetes resource only",
        "
name: a
backends: [{name: b, command: c}]
compositeTools:
  - name: deploy
    description: Deploys.
    failureMode: abort
    steps: [{id: one, tool: b.run, onError: {action: retry, maxRetries: 3}}]
",
    ),
    (
        "wrong types",
        "
name: [a]
backends:
  - name: {a: b}
    url: [https://example.com]
    headers: [a]
  - name: b
    command: c
    args: --verbose
    env: {A: {B: c}, D: }
  - just text
listen: {port: high, host: 1}
operational: {failureHandling: {unhealthyThreshold: 2.5, circuitBreaker: {enabled: 1}}}
passthroughHeaders: X-Request-Id
",
    ),
    (
        "numbers out of range",
        "
name: a
backends: [{name: b, command: c}]
listen: {port: 70000}
operational: {failureHandling: {unhealthyThreshold: -1}}
",
    ),
    (
        "words that are not on the list",
        "
name: a
backends: [{name: b, url: 'https://example.com', transport: streamable_http, type: entri}]
incomingAuth: {type: anon}
outgoingAuth: {source: inlined, default: {type: header-injection}}
aggregation: {conflictResolution: priorities, defaultToolVisibility: hidden}
operational: {logLevel: verbose}
",
    ),
    (
        "a key twice",
        "
name: a
backends:
  - name: b
    command: c
    command: d
name: e
",
    ),
    (
        "durations",
        "
name: a
backends:
  - {name: b, command: c, timeout: 30}
  - {name: d, command: c, timeout: 1 minute}
  - {name: e, command: c, timeout: -5s}
  - {name: f, command: c, timeout: {seconds: 5}}
  - {name: g, command: c, timeout: {duration: 5x}}
  - {name: h, command: c, timeout: 0s}
  - {name: i, command: c, timeout: true}
  - {name: j, command: c, timeout: 9999999h}
operational: {timeouts: {default: 0s, perWorkload: {b: 0s}}}
",
    ),
    (
        "references to the environment",
        "
name: a
backends:
  - name: b
    url: https://${NO_HOST}/mcp
    headers:
      Authorization: Bearer ${NO_TOKEN
      X-Key: ${not a name}
      X-Ask: ${input:key}
      X-Empty: ${EMPTY}
      X-Broken: ${BROKEN}
",
    ),
];
