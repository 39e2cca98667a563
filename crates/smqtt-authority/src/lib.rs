//! The SMQTT key authority: register, certificates, attribute keys, enrolment
