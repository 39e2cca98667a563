//! The structure of SMQTT envelopes, without keys: COSE and CBOR encode and parse
