//! The SMQTT broker: MQTT 3.1.1 and 5.0 over TLS 1.3, relaying what it cannot read
