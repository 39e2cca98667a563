//! Identities of SMQTT: certificates, the device bundle on disk, TLS configurations
