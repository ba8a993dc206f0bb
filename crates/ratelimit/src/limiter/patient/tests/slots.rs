//! Waiting for slots that several replicas share.
