//! The asynchronous SMQTT client: connect, publish sealed, subscribe verified, enrol
