//! Seal and open SMQTT envelopes: key frames, content keys, sequence windows
