use super::*;

fn error_settings(change: impl FnOnce(&mut OidcSettings)) -> Vec<&'static str> {
    let mut settings = OidcSettings::new("https://idp.example.com", "https://mcp.example.com/mcp");
    change(&mut settings);
    match OidcPolicy::new(settings) {
        Ok(_) => Vec::new(),
        Err(flaws) => flaws.iter().map(|flaw| flaw.setting).collect(),
    }
}

#[test]
fn the_usual_settings_are_fine() {
    assert!(error_settings(|_| {}).is_empty());
    let policy = OidcPolicy::new(OidcSettings::new("https://idp.example.com/", "x")).unwrap();
    assert_eq!(policy.issuer, "https://idp.example.com/");
    assert_eq!(policy.algorithms, ASYMMETRIC_ALGORITHMS);
    assert!(matches!(policy.introspection, Introspection::Disabled));
}

#[test]
fn issuers_have_to_be_reached_safely() {
    for bad in [
        "",
        "idp.example.com",
        "ftp://idp.example.com",
        "http://idp.example.com",
        "https://",
        "https://user@idp.example.com",
        "https://idp.example.com/#x",
        "https://idp.example.com/?x",
        "https://10.0.0.1",
        "https://[::1]/",
        "http://127.0.0.1:9",
        "http://localhost:9",
        "https://169.254.169.254/latest",
    ] {
        assert_eq!(error_settings(|settings| settings.issuer = bad.to_owned()), ["issuer"], "{bad}");
    }
    let private = |issuer: &str, allow_http| {
        error_settings(|settings| {
            settings.issuer = issuer.to_owned();
            settings.allow_private_addresses = true;
            settings.allow_http = allow_http;
        })
    };
    for issuer in ["https://10.0.0.1", "http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"] {
        assert!(private(issuer, false).is_empty(), "{issuer}");
    }
    assert_eq!(private("http://10.0.0.1", false), ["issuer"]);
    assert_eq!(private("http://localhost.evil.example", false), ["issuer"]);
    assert!(private("http://10.0.0.1", true).is_empty());
}

#[test]
fn every_flaw_is_told() {
    let told = error_settings(|settings| {
        settings.issuer = "x".to_owned();
        settings.jwks_url = Some("http://keys.example.com".to_owned());
        settings.introspection_url = Some("https://192.168.0.1/introspect".to_owned());
        settings.audiences = Vec::new();
        settings.required_scopes = vec!["fine".to_owned(), "not fine".to_owned(), String::new()];
        settings.client_secret = Some(Secret::new("s"));
        settings.leeway = Duration::from_secs(61);
        settings.resource = Some("mcp.example.com".to_owned());
        settings.algorithms = ["none", "HS256", "RS256", "rs256"].map(str::to_owned).to_vec();
    });
    assert_eq!(
        told,
        [
            "issuer",
            "jwks_url",
            "introspection_url",
            "audiences",
            "required_scopes",
            "required_scopes",
            "client_id",
            "leeway",
            "resource",
            "algorithms",
            "algorithms",
            "algorithms"
        ]
    );
}

#[test]
fn secrets_do_not_show_themselves() {
    let mut settings = OidcSettings::new("https://idp.example.com", "x");
    settings.client_id = Some("gateway".to_owned());
    settings.client_secret = Some(Secret::new("hunter2"));
    assert!(!format!("{settings:?}").contains("hunter2"));
    let policy = OidcPolicy::new(settings).unwrap();
    assert!(!format!("{policy:?}").contains("hunter2"));
    assert!(matches!(policy.introspection, Introspection::Enabled(None, _)));
}
