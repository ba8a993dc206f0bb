//! Warnings for operators about the server's settings: a server that evicts buckets grants fresh budgets.

/// The oldest server version that the scripts are tested with, as major and minor.
const VERSION_MIN: (u32, u32) = (6, 2);

/// The warnings for the text of `INFO server` and `INFO memory`. A field that is missing causes no warning.
pub(crate) fn warnings(info: &str) -> Vec<String> {
    let field =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let mut warnings = Vec::new();
    if let (Some(bytes), Some(policy)) = (field("maxmemory"), field("maxmemory_policy"))
        && bytes != "0"
        && policy != "noeviction"
    {
        warnings.push(format!(
            "the shared rate limit store evicts keys when it is full (maxmemory-policy {policy}), and an evicted \
             bucket is a full one; set maxmemory-policy noeviction"
        ));
    }
    // Valkey reports the version of Redis that it is compatible with in this field.
    if let Some(text) = field("redis_version") {
        let mut parts = text.split('.').map_while(|part| part.parse::<u32>().ok());
        let version = (parts.next(), parts.next());
        if let (Some(major), Some(minor)) = version
            && (major, minor) < VERSION_MIN
        {
            warnings.push(format!(
                "the shared rate limit store is version {major}.{minor}; limits are tested with {}.{} and later",
                VERSION_MIN.0, VERSION_MIN.1
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eviction_and_old_versions_are_warned_of() {
        let good =
            "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert_eq!(warnings(good), Vec::<String>::new());
        assert_eq!(warnings(""), Vec::<String>::new());
        let bad = "redis_version:6.0.16\r\nmaxmemory:1000\r\nmaxmemory_human:1K\r\nmaxmemory_policy:allkeys-lru\r\n";
        let warned = warnings(bad);
        assert_eq!(warned.len(), 2);
        assert!(warned.iter().any(|text| text.contains("allkeys-lru")), "{warned:?}");
        assert!(warned.iter().any(|text| text.contains("version 6.0;")), "{warned:?}");
    }
}
