//! Tests of `overrides`, `burst` and claims that are lists.

use vmcp_ratelimit::policy::{LimitSize, ListHandling};

use super::{load, seconds};

#[test]
fn sizes_by_who() {
    let settings = load(
        "
name: a
backends: [{name: b, command: c}]
incomingAuth:
  type: oidc
  oidc: {issuer: 'https://idp.example.com', audience: x, resource: 'https://gateway.example.com/mcp'}
  authz: {type: none, groupClaimName: teams}
rateLimiting:
  perUser:
    maxTokens: 5
    refillPeriod: 1m
    burst: 2
    overrides:
      - {subject: '*', maxTokens: 0}
      - {claim: level, value: 3, maxTokens: 9}
      - {group: staff, maxTokens: 8, refillPeriod: 1h, burst: 20}
      - {subject: ada, unlimited: true}
  perClaim:
    - {claim: realm_access.roles, lists: largest, maxTokens: 3, refillPeriod: 1s, overrides: [{value: true, maxTokens: 7}]}
",
    );
    let policy = settings.limits.unwrap().policy;
    let quota = policy.server.per_user.unwrap();
    assert_eq!((quota.windows[0].rate.configured(), quota.windows[0].rate.burst()), ((5, seconds(60)), 2));
    let shown: Vec<String> = quota.overrides.iter().map(|one| format!("{:?}", one.selector)).collect();
    assert_eq!(
        shown,
        [
            "Subject { subject: \"ada\", issuer: None }",
            "Group(\"staff\")",
            "Claim { claim: \"level\", value: Some(\"3\") }",
            "Others"
        ]
    );
    let sizes: Vec<&LimitSize> = quota.overrides.iter().map(|one| &one.size).collect();
    assert_eq!((sizes[0], sizes[3]), (&LimitSize::Unlimited, &LimitSize::Blocked));
    let LimitSize::Windows(windows) = sizes[1] else { panic!("{sizes:?}") };
    assert_eq!((windows[0].rate.configured(), windows[0].rate.burst()), ((8, seconds(3600)), 20));
    let LimitSize::Windows(windows) = sizes[2] else { panic!("{sizes:?}") };
    assert_eq!(
        (windows[0].rate.configured(), windows[0].rate.burst()),
        ((9, seconds(60)), 9),
        "the period is that of all"
    );
    assert_eq!(policy.group_claims, [std::sync::Arc::from("teams")]);
    let roles = &policy.server.per_value[0];
    assert_eq!((roles.list_handling, roles.quota.overrides.iter().count()), (ListHandling::Largest, 1));
}

#[test]
fn quotas_by_the_calendar() {
    let settings = load(
        "
name: a
backends: [{name: b, command: c}]
rateLimiting:
  anonymous: shared
  shared: {quota: {calls: 10000, per: month}}
  perUser:
    maxTokens: 10
    refillPeriod: 1m
    quota: {calls: 500, per: day, timeZone: Europe/Berlin, resetsAt: '06:00'}
    overrides: [{subject: ada, quota: {calls: 9, per: hour, resetsAt: '00:30'}}]
",
    );
    let policy = settings.limits.unwrap().policy;
    let shown = |quota: &vmcp_ratelimit::policy::Quota| -> Vec<String> {
        let windows = quota.all_windows().map(|window| {
            let calendar = window.calendar.as_ref().map_or("-".to_owned(), |calendar| calendar.to_string());
            format!("{} {calendar}", window.rate.configured().0)
        });
        windows.collect()
    };
    assert_eq!(shown(&policy.server.shared.unwrap()), ["10000 month (UTC, from 00:00)"]);
    assert_eq!(
        shown(&policy.server.per_user.unwrap()),
        ["10 -", "500 day (Europe/Berlin, from 06:00)", "9 hour (UTC, from 00:30)"]
    );
}
