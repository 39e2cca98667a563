//! Media types, as MQTT 5 publishes and COSE headers state them.

/// MQTT 5 content type of a publish that holds one key frame or one sealed message (RFC 9052 §11.3.1).
pub const MEDIA_TYPE: &str = "application/cose";

/// MQTT 5 content type of an inline publish, which holds two COSE objects in a row (RFC 8742).
pub const MEDIA_TYPE_INLINE: &str = "application/cbor-seq";

/// COSE content type (header label 3) of a key frame's payload.
pub const KEY_FRAME_CONTENT_TYPE: &str = "application/smqtt-key+cbor";
