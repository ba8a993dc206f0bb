//! Configs that are well formed and cannot be served.

/// The title and the text of each config that has the right shape and a wrong meaning.
pub(super) const SEMANTICS: &[(&str, &str)] = &[
    (
        "the smallest file lacks a name",
        "backends: [{name: b, command: c}]",
    ),
    (
        "names of backends",
        "
name: ''
backends:
  - {command: c}
  - {name: '', command: c}
  - {name: twice, command: c}
  - {name: twice, command: d}
  - {name: a-name-that-is-much-too-long-to-stand-before-the-name-of-every-tool-it-has, command: c}
  - {name: 'with space', command: c}
",
    ),
    (
        "an optimizer that finds nothing, or far too much",
        "
name: a
backends: [{name: b, command: c}]
optimizer:
  maxToolsToReturn: 0
  hybridSearchSemanticRatio: '1.5'
  semanticDistanceThreshold: near
  pinnedTools: [b_x, '', b_x]
  findToolDescription: ' '
  findToolName: call_tool
  callToolName: 'run it'
",
    ),
    (
        "an embedding service that cannot be asked",
        "
name: a
backends: [{name: b, command: c}]
optimizer: {embeddingService: 'ftp://${TOKEN}@host', embeddingServiceTimeout: 30s}
",
    ),
    (
        "an embedding service of the wrong kind",
        "
name: a
backends: [{name: b, command: c}]
optimizer: {embeddingProvider: openai, embeddingService: 'http://host', embeddingHeaders: {X: y}}
",
    ),
    (
        "an embedding provider without its service, and a service without its provider",
        "
name: a
backends: [{name: b, command: c}]
optimizer: {embeddingProvider: static, embeddingService: 'http://host', embeddingModel: m, embeddingHeaders: {X: y}}
",
    ),
    (
        "headers for a service that is sent none",
        "
name: a
backends: [{name: b, command: c}]
optimizer: {embeddingService: 'http://host', embeddingHeaders: {X: y}}
",
    ),
    (
        "limits that limit nothing, or cannot be kept",
        "
name: a
incomingAuth: {type: local}
backends: [{name: b, command: c}]
rateLimiting:
  shared: {maxTokens: 0, refillPeriod: 1m}
  perUser: {maxTokens: 5, refillPeriod: 0s}
  concurrency: {shared: 0}
  code: -32050
  tools:
    - {name: nothing}
    - {name: '', shared: {maxTokens: 1, refillPeriod: 1s}}
    - {name: twice, shared: {maxTokens: 1, refillPeriod: 1s}}
    - {name: twice, shared: {maxTokens: 99999999999, refillPeriod: 1s}}
    - {name: half, shared: {maxTokens: 1}}
    - {name: other-half, perUser: {refillPeriod: 1m}}
    - {name: empty, perUser: {}, group: true}
    - {name: dear, cost: 9, shared: {maxTokens: 5, refillPeriod: 1m}}
    - {name: free, cost: 0, shared: {maxTokens: 5, refillPeriod: 1m}}
    - {name: odd, shared: {maxTokens: 999983, refillPeriod: 8760h}}
    - {name: fine-grained, shared: {maxTokens: 1, refillPeriod: 1500ns}}
    - {name: windows, shared: {windows: [{maxTokens: 0, refillPeriod: 1s}]}}
",
    ),
    (
        "a loop that is none",
        "{name: a, backends: [{name: b, command: c}], loopBreaker: {repeats: 1, within: 0s, tools: [x, '']}}",
    ),
    (
        "limits per user without users",
        "{name: a, backends: [{name: b, command: c}], rateLimiting: {perUser: {maxTokens: 5, refillPeriod: 1m}}}",
    ),
    (
        "an empty section of limits",
        "{name: a, backends: [{name: b, command: c}], rateLimiting: {}}",
    ),
    (
        "limits by annotation that limit nothing, and one that is too dear",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  byAnnotation:
    writes: {}
    destructive: {cost: 9, shared: {maxTokens: 5, refillPeriod: 1m}}
    readOnly: {shared: {maxTokens: 5, refillPeriod: 1m}}
",
    ),
    (
        "claims and prices that cannot be",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  perClaim:
    - {claim: team, maxTokens: 5, refillPeriod: 1m}
    - {claim: team, maxTokens: 9, refillPeriod: 1m, enforcePercent: 0}
    - {claim: ' ', maxTokens: 9, refillPeriod: 1m, mode: shadow, enforcePercent: 10}
  tools:
    - {name: misspelt, cost: 'arguments.count'}
    - {name: no-expression, cost: '1 +'}
    - {name: loops, settle: 'result.content.all(x, args.y.all(z, z == x)) ? 1 : 2'}
    - {name: too-early, cost: result.bytes}
    - {name: nothing}
    - {name: list, cost: [1]}
",
    ),
    (
        "limits that nobody could pass, and prices that never come out",
        "
name: with space
incomingAuth: {type: local}
backends: [{name: b, command: c}]
rateLimiting:
  perUser: {maxTokens: 5, refillPeriod: 1m}
  shared: {windows: [{maxTokens: 9, refillPeriod: 60s}, {maxTokens: 7, refillPeriod: 1m}]}
  code: 0
  redis: {url: 'redis://h'}
  tools:
    - {name: dear, cost: 10}
    - {name: only-on-trial, cost: 10, mode: shadow, shared: {maxTokens: 20, refillPeriod: 1m}}
    - {name: divides, cost: '1 / 0'}
    - {name: text, cost: \"'a'\"}
    - {name: of-nothing, settle: result.tokens}
    - {name: no-settlement, cost: 2, settleMax: 5}
",
    ),
    (
        "limits on methods that cannot be",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  methods:
    tools/list: {}
    tools/call: {shared: {maxTokens: 5, refillPeriod: 1m}}
    resources/reed: {shared: {maxTokens: 5, refillPeriod: 1m}}
    prompts/get: {shared: {maxTokens: 0, refillPeriod: 1m}, cost: 2}
    subscriptions/listen: {concurrency: {shared: 5}}
",
    ),
    (
        "limits per claim without claims",
        "{name: a, backends: [{name: b, command: c}], incomingAuth: {type: anonymous}, rateLimiting: {perClaim: [{claim: t, maxTokens: 5, refillPeriod: 1m}]}}",
    ),
    (
        "a lease that is too short",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  shared: {maxTokens: 5000, refillPeriod: 1s}
  redis: {url: 'redis://127.0.0.1:6379'}
  consistency: lease
  lease: {duration: 5ms}
",
    ),
    (
        "a lease of slots that is too short for its store",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  concurrency: {shared: 4}
  redis: {url: 'redis://127.0.0.1:6379', deadline: 2s}
  concurrencyLease: 10s
",
    ),
    (
        "waits that cannot be",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  shared: {maxTokens: 5, refillPeriod: 1m}
  maxWait: 2h
  waiting: {maxCalls: 0, maxPerUser: 0}
  tools:
    - {name: tiny, maxWait: 10us, shared: {maxTokens: 5, refillPeriod: 1m}}
    - {name: long, maxWait: 61m, shared: {maxTokens: 5, refillPeriod: 1m}}
",
    ),
    (
        "waits that are no durations",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  shared: {maxTokens: 5, refillPeriod: 1m}
  maxWait: soon
  tools:
    - {name: bare, maxWait: 5, shared: {maxTokens: 5, refillPeriod: 1m}}
",
    ),
    (
        "limits in Redis without a Redis",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting: {shared: {maxTokens: 5, refillPeriod: 1m}, store: redis}
",
    ),
    (
        "limits in too many kinds of Redis",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  shared: {maxTokens: 5, refillPeriod: 1m}
  redis: {url: 'redis://h', cluster: ['redis://i'], passwordEnv: NOT_SET, passwordFile: /f, replicas: 0}
",
    ),
    (
        "sentinels without a master, and a password that is nowhere",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  shared: {maxTokens: 5, refillPeriod: 1m}
  redis: {sentinels: ['redis://h'], passwordEnv: NOT_SET}
",
    ),
    (
        "URLs",
        "
name: a
backends:
  - {name: b, url: example.com/mcp}
  - {name: c, url: 'ftp://example.com'}
  - {name: d, url: 'https://'}
  - {name: e, url: 'https://user:pass@example.com/mcp'}
  - {name: f, url: 'https://exa mple.com'}
  - {name: g, url: 'https://example.com/#part'}
  - {name: h, url: /mcp}
",
    ),
    (
        "keys that do not go together",
        "
name: a
backends:
  - {name: b}
  - {name: c, url: 'https://example.com', command: d}
  - {name: d, transport: stdio}
  - {name: e, transport: sse}
  - {name: f, transport: stdio, url: 'https://example.com'}
  - {name: g, transport: sse, command: c}
  - {name: h, command: c, headers: {A: b}, caBundlePath: /ca.pem, type: entry}
  - {name: i, url: 'https://example.com', args: [a], env: {A: b}, cwd: /tmp}
  - {name: j, command: npx -y server}
",
    ),
    (
        "headers and authorities of backends",
        "
name: a
backends:
  - name: b
    url: https://example.com
    caBundlePath: certs/ca.pem
    headers: {'not a name': x, Host: example.com, Mcp-Session-Id: x, X-Twice: a, x-twice: b, X-Umlaut: ä}
  - {name: c, url: 'https://example.com', caBundlePath: /certs/../ca.pem}
",
    ),
    (
        "environment of stdio servers",
        "
name: a
backends:
  - {name: b, command: \"a\\0b\", args: [\"a\\0b\"], env: {'A=B': c, D: \"e\\0\"}, inheritEnv: [OK, 'A=B', '', 'A*B', '*'], cwd: \"\\0\"}
",
    ),
    (
        "isolation",
        "
name: a
isolation: {maxProcesses: 2, maxConnections: 0, maxConnectionsPerCaller: 0, idleTimeout: 0s, wait: 0s}
backends:
  - {name: b, command: c, isolation: perCaller}
  - {name: e, command: c}
",
    ),
    (
        "bounds of the listener",
        "
name: a
listen:
  bounds: {maxBodyBytes: 100, maxHeadBytes: 100, headTimeout: 0s, maxSessions: 0, maxSessionsPerCaller: 0,
    maxRequestsPerCaller: 0, maxConnectionsPerAddress: 0, maxAnswerBytes: 5, shutdownGrace: 0s}
backends: []
",
    ),
    (
        "an isolation there is not",
        "name: a\nbackends: [{name: d, command: c, isolation: perRequest}]",
    ),
    (
        "a group and no backends",
        "name: a\ngroupRef: team\naggregation: {conflictResolution: auto, tools: [{workload: b, excludeAll: true}]}",
    ),
    (
        "unknown backends",
        "
name: a
backends: [{name: github, url: 'https://example.com'}, {name: jira, url: 'https://example.com'}]
outgoingAuth: {backends: {gihtub: {type: unauthenticated}}}
operational: {timeouts: {perWorkload: {jria: 5s, slack: 5s}}}
aggregation:
  conflictResolution: priority
  conflictResolutionConfig: {priorityOrder: [github, gira, github]}
  tools: [{workload: GitHub, excludeAll: true}]
",
    ),
    (
        "strategies for clashing names",
        "
name: a
backends: [{name: b, command: c}]
aggregation: {conflictResolution: manual, conflictResolutionConfig: {priorityOrder: [b], prefixFormat: '{workload}-'}}
",
    ),
    (
        "priority without an order",
        "name: a\nbackends: [{name: b, command: c}]\naggregation: {conflictResolution: priority}",
    ),
    (
        "a hidden winner",
        "
name: a
backends: [{name: b, command: c}, {name: d, command: e}]
aggregation:
  conflictResolution: priority
  conflictResolutionConfig: {priorityOrder: [b, d]}
  defaultToolVisibility: deny
  tools: [{workload: d, filter: [x]}]
",
    ),
    (
        "filters and overrides",
        "
name: a
backends: [{name: b, command: c}]
aggregation:
  tools:
    - workload: b
      excludeAll: true
      filter: [one, two]
      overrides:
        one: {name: first}
        two: {name: first}
        three: {}
        four: {annotations: {}}
    - workload: b
      filter: []
",
    ),
    (
        "health checks",
        "
name: a
backends: [{name: b, command: c}]
operational:
  failureHandling:
    healthCheckInterval: 5s
    healthCheckTimeout: 5s
    unhealthyThreshold: 0
    statusReportingInterval: 0s
    circuitBreaker: {enabled: true, failureThreshold: 0, timeout: 500ms}
",
    ),
    (
        "the address",
        "
name: a
backends: [{name: b, command: c}]
listen: {host: example.com, path: mcp, allowedOrigins: [example.com, 'https://a b'], allowedHosts: ['http://x', 'y:80']}
incomingAuth: {type: anonymous}
",
    ),
    (
        "an address beyond this machine without a word about callers",
        "name: a\nbackends: [{name: b, command: c}]\nlisten: {host: 0.0.0.0, path: /health}",
    ),
    (
        "headers passed on from clients",
        "
name: a
backends: [{name: b, command: c}]
passthroughHeaders: [X-Request-Id, Authorization, cookie, X-Forwarded-For, 'a b', Host, '', Mcp-Session-Id]
",
    ),
    (
        "outgoing authentication",
        "
name: a
backends:
  - {name: b, url: 'https://example.com', headers: {Authorization: x}}
  - {name: c, command: d}
  - {name: e, url: 'https://example.com'}
  - {name: f, url: 'https://example.com'}
  - {name: g, url: 'https://example.com'}
  - {name: h, url: 'https://example.com'}
outgoingAuth:
  source: inline
  backends:
    b: {type: header_injection, headerInjection: {headerName: authorization, headerValue: y}}
    c: {type: header_injection, headerInjection: {headerName: X-Key, headerValueEnv: TOKEN}}
    e: {type: header_injection}
    f: {type: header_injection, headerInjection: {headerName: X-Key, headerValueEnv: NO_TOKEN}}
    g: {type: header_injection, headerInjection: {headerName: X-Key, headerValue: a, headerValueEnv: TOKEN}}
    h: {type: unauthenticated, headerInjection: {headerName: X-Key}}
",
    ),
    (
        "exchanged credentials",
        "
name: a
backends:
  - {name: b, url: 'https://example.com', headers: {Authorization: x}}
  - {name: c, command: d}
  - {name: e, url: 'https://example.com'}
  - {name: f, url: 'https://example.com'}
  - {name: g, url: 'https://example.com'}
  - {name: h, url: 'https://example.com'}
  - {name: i, url: 'https://example.com'}
incomingAuth: {type: oidc, oidc: {issuer: 'https://issuer.example.com', audience: vmcp}}
outgoingAuth:
  source: inline
  backends:
    b: {type: token_exchange, tokenExchange: {tokenUrl: 'https://issuer.example.com/token'}}
    c: {type: token_exchange, tokenExchange: {tokenUrl: 'https://issuer.example.com/token'}}
    e: {type: token_exchange, tokenExchange: {tokenUrl: 'http://issuer.example.com/token', clientSecretEnv: TOKEN}}
    f: {type: token_exchange, tokenExchange: {tokenUrl: 'https://issuer.example.com/token', clientId: x, clientSecretEnv: NO_TOKEN, subjectTokenType: saml, subjectProviderName: github}}
    g: {type: xaa, xaa: {idpTokenUrl: 'https://idp', targetTokenUrl: 'http://target', targetAudience: ''}}
    h: {type: aws_sts, awsSts: {region: Frankfurt, roleMappings: [{roleArn: r}]}}
    i: {type: aws_sts}
",
    ),
    (
        "exchanges without tokens to exchange",
        "
name: a
backends: [{name: b, url: 'https://example.com'}]
incomingAuth: {type: apiKey, apiKeys: [{name: ci, hash: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}]}
outgoingAuth: {default: {type: token_exchange, tokenExchange: {tokenUrl: 'https://issuer.example.com/token'}}}
",
    ),
    (
        "audit that would record nothing, or too much",
        "
name: a
backends: [{name: b, command: c}]
audit: {eventTypes: [mcp_ping], maxDataSize: 2000000, logFile: ''}
",
    ),
    (
        "sizes by who that name nobody, or several",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  anonymous: shared
  shared: {maxTokens: 5, refillPeriod: 1m, overrides: [{subject: ada, maxTokens: 9}]}
  perUser:
    maxTokens: 5
    refillPeriod: 1m
    overrides:
      - {maxTokens: 9}
      - {subject: ada, group: staff, maxTokens: 9}
      - {subject: '', maxTokens: 9}
      - {group: staff, issuer: 'https://idp', maxTokens: 9}
      - {group: '*', maxTokens: 9}
      - {claim: plan, maxTokens: 9}
      - {value: gold, maxTokens: 9}
      - {subject: bob, maxTokens: 0, refillPeriod: 1h}
      - {subject: cid, unlimited: true, maxTokens: 9}
      - {subject: dan}
      - {subject: eve, burst: 3}
      - {subject: eve, maxTokens: 3}
      - {subject: fay, maxTokens: 3, burst: 0}
      - {apiKey: ci, maxTokens: 9}
      - {subject: guy, windows: [{maxTokens: 9, refillPeriod: 1m}, {maxTokens: 8, refillPeriod: 60s}]}
  tools:
    - name: dear
      cost: 4
      perUser: {maxTokens: 9, refillPeriod: 1m, overrides: [{group: few, maxTokens: 3}]}
  perClaim:
    - claim: team
      missing: shared
      windows: [{maxTokens: 5, refillPeriod: 1m}]
      overrides:
        - {subject: ada, maxTokens: 9, refillPeriod: 1m}
        - {maxTokens: 9, refillPeriod: 1m}
        - {value: red, maxTokens: 9}
",
    ),
    (
        "buckets that hold nothing, or too much",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  anonymous: shared
  shared: {maxTokens: 5, refillPeriod: 1m, burst: 0}
  perUser: {maxTokens: 5, refillPeriod: 1m, burst: 3000000000}
  tools:
    - {name: x, shared: {burst: 3}}
",
    ),
    (
        "limits by what calls say, and reserved shares, that make no sense",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  anonymous: shared
  shared: {maxTokens: 50, refillPeriod: 1m, reserved: {percent: 100, for: [{group: g}]}}
  perUser: {maxTokens: 5, refillPeriod: 1m, reserved: {percent: 10, for: [{group: g}]}}
  perValue:
    - {maxTokens: 5, refillPeriod: 1m}
    - {argument: repo, header: x-tenant, maxTokens: 5, refillPeriod: 1m}
    - {argument: '', maxTokens: 5, refillPeriod: 1m}
    - {argument: repo, maxTokens: 5, refillPeriod: 1m}
    - {argument: repo, values: [x], maxTokens: 5, refillPeriod: 1m}
    - {header: X-Tenant, values: [x], maxTokens: 5, refillPeriod: 1m, overrides: [{group: g, maxTokens: 9}]}
  tools:
    - {name: x, shared: {maxTokens: 5, refillPeriod: 1m, reserved: {percent: 99, for: [{group: g}]}}}
    - {name: y, shared: {maxTokens: 50, refillPeriod: 1m, reserved: {percent: 9, for: []}}}
    - {name: z, shared: {maxTokens: 50, refillPeriod: 1m, reserved: {percent: 9, for: [{subject: '*'}, {apiKey: k}, {}]}}}
    - {name: w, cost: 40, shared: {maxTokens: 50, refillPeriod: 1m, reserved: {percent: 50, for: [{group: g}]}}}
",
    ),
    (
        "quotas of no calendar",
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  anonymous: shared
  shared: {quota: {calls: 0, per: day}}
  perUser: {quota: {calls: 5, per: day, timeZone: Europe/Atlantis}}
  tools:
    - {name: x, shared: {quota: {calls: 5, per: day, resetsAt: midnight}}}
    - {name: y, shared: {quota: {calls: 5, per: hour, resetsAt: '06:00'}}}
    - {name: z, cost: 3, shared: {quota: {calls: 2, per: month}}}
",
    ),
];

/// Configs of ToolHive with features that this build does not have.
pub(super) const UNSUPPORTED: &[(&str, &str)] = &[
    (
        "features that are not built",
        "
name: a
backends: [{name: b, command: c, metadata: {team: x}}]
incomingAuth:
  type: oidc
  oidc: {issuer: 'https://issuer.example.com', audience: vmcp, clientSecretEnv: SECRET}
  authz: {type: cedar, policies: ['permit(principal, action, resource);']}
compositeTools:
  - {name: d, description: e, steps: [{id: f, tool: b.run, maxParallel: 2}]}
  - {name: g, description: e, steps: [{id: f, tool: d, arguments: {x: '{{.steps.f.outptu}}'}}]}
metadata: {owner: me}
operational: {failureHandling: {partialFailureMode: best_effort, statusReportingInterval: 30s}}
telemetry: {endpoint: 'localhost:4317', tracingEnabled: true, samplingRate: 0.05}
optimizer: {}
codeMode: {enabled: true}
authServerConfig: {issuer: 'https://vmcp.example.com'}
sessionStorage: {provider: redis, address: 'redis:6379'}
rateLimiting: {perUser: {maxTokens: 10, refillPeriod: {duration: 1m0s}}}
",
    ),
    (
        "scripts with bounds that are none",
        "
name: a
backends: [{name: b, command: c}]
compositeTools: [{name: execute_tool_script, description: d, steps: [{id: e, tool: b.run}]}]
codeMode:
  enabled: true
  language: javascript
  stepLimit: -1
  parallelMaxConcurrency: 101
  toolCallTimeout: 0s
  timeout: 11m
  cpuTime: 500ms
  maxMemoryBytes: 1024
  maxCalls: 0
  maxScriptBytes: 2000000
  maxRuns: 0
  spareWorkers: 17
  tools: {allow: [''], deny: [x]}
",
    ),
    (
        "sections that only the Kubernetes operator can resolve",
        "
name: a
backends: [{name: b, command: c}]
outgoingAuth: {source: discovered}
compositeToolRefs: [{name: deploy}]
aggregation: {conflictResolution: auto, tools: [{workload: b, toolConfigRef: {name: shared}}]}
",
    ),
    (
        "strategies without a source of tokens",
        "
name: a
backends: [{name: b, url: 'https://example.com'}]
incomingAuth: {type: oidc, oidc: {issuer: 'https://issuer.example.com', audience: vmcp}}
outgoingAuth:
  default: {type: upstream_inject, upstreamInject: {providerName: p}}
  backends: {b: {type: obo, obo: {tokenUrl: 'https://example.com/token'}}}
",
    ),
    (
        "security sections beside anonymous callers",
        "
name: a
backends: [{name: b, command: c}]
incomingAuth: {type: anonymous, oidc: {issuer: 'https://issuer.example.com', audience: x}, authz: {type: none, policies: [p]}}
",
    ),
];

/// Wrong `mcpServers` files of desktop clients.
pub(super) const JSON: &[(&str, &str)] = &[
    ("JSON: broken", "{\"mcpServers\": {\"a\": }}"),
    ("JSON: a configuration in YAML", "name: a\nbackends: []\n"),
    ("JSON: no servers", "{\"mcpservers\": {}}"),
    (
        "JSON: wrong servers",
        r#"
{"mcpServers": {
  "a": {"command": "npx", "args": "-y", "env": ["A"], "type": "pipe"},
  "b": {"url": "example.com", "headers": {"Authorization": "Bearer ${input:token}"}},
  "c": {"command": "${NO_PATH}/server", "args": ["${NO_ARG:-fine}", {}], "autoApprove": []},
  "d": [],
  "e": {"url": "https://example.com/mcp", "command": "x"}
}}
"#,
    ),
];
