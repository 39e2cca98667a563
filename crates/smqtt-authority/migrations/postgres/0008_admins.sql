-- Who may ask what over the network: the one certificate of each that counts.
CREATE TABLE admin (
    name    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    role    TEXT COLLATE "C" NOT NULL CHECK (role IN ('auditor', 'operator')),
    serial  TEXT COLLATE "C" NOT NULL REFERENCES certificate (serial),
    created BIGINT NOT NULL,
    removed BIGINT
);
