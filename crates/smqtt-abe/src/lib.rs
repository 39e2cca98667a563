//! Attribute-based encryption (FABEO over BLS12-381) as a key encapsulation mechanism
