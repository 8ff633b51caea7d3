'use strict';

// Analysis Corp's app. It works with Bank Corp's PostgreSQL as if the database stood next to it:
// a stock client, plain SQL, nothing of adit in it.

const { Client } = require('pg');

// The only difference from a direct connection is where the app connects to. Instead of the bank's
// database server, which no network leads to from here, it is the inlet: a port on this machine.
const client = new Client({
  host: process.env.PGHOST || '127.0.0.1',
  port: Number(process.env.PGPORT || 15432),

  // User, password and database are the bank's, exactly as it gave them to Analysis Corp. adit has
  // authorized the connection before these are looked at, and PostgreSQL checks them all the same.
  user: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
});

// A word that travels both ways. run.sh looks for it in what crossed the public network.
const marker = process.env.MARKER || 'no marker';

async function main() {
  // One TCP connection: from the app to the inlet, as a stream to the outlet, from there to
  // PostgreSQL. What travels between inlet and outlet is sealed; the relay between them hands on
  // bytes which it can't read.
  await client.connect();
  console.log('connected');

  // The app writes: a table and three rows of it.
  await client.query('CREATE TABLE IF NOT EXISTS risk_scores (account text PRIMARY KEY, score numeric NOT NULL, note text)');
  const rows = [
    ['DE-1001', 0.12, 'steady'],
    ['DE-1002', 0.87, 'look again in March'],
    ['DE-1003', 0.4, marker],
  ];
  for (const row of rows) {
    await client.query(
      `INSERT INTO risk_scores (account, score, note) VALUES ($1, $2, $3)
       ON CONFLICT (account) DO UPDATE SET score = EXCLUDED.score, note = EXCLUDED.note`,
      row,
    );
  }
  console.log(`inserted ${rows.length} rows`);

  // And it reads, and asks the database who it is.
  const server = await client.query('SELECT current_database() AS database, split_part(version(), \' \', 2) AS version');
  console.log(`answered by PostgreSQL ${server.rows[0].version}, database ${server.rows[0].database}`);
  const found = await client.query('SELECT account, score, note FROM risk_scores ORDER BY score DESC');
  console.table(found.rows);

  if (!found.rows.some((row) => row.note === marker)) {
    throw new Error('the row that was just written did not come back');
  }
  // An orderly end: the client says goodbye, PostgreSQL closes, and both ends of the portal see it.
  await client.end();
  console.log('done');
}

main().catch((error) => {
  // Where the portal denies the app, it is this that the app sees: a connection that was reset, at
  // once, and not one that hangs.
  console.error(`failed: ${error.code || ''} ${error.message}`);
  process.exitCode = 1;
});
