-- Who may ask what over the network: the one certificate of each that counts.
CREATE TABLE admin (
    name    TEXT    NOT NULL PRIMARY KEY,
    role    TEXT    NOT NULL CHECK (role IN ('auditor', 'operator')),
    serial  TEXT    NOT NULL REFERENCES certificate (serial),
    created INTEGER NOT NULL,
    removed INTEGER
) STRICT;
