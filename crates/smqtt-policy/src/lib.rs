//! Attributes and the policy language of SMQTT: parse, normalise, evaluate, explain
