-- The certificate of the intermediate that signed a checkpoint; see migrations/sqlite.

ALTER TABLE audit_checkpoint ADD COLUMN issuer BYTEA;
