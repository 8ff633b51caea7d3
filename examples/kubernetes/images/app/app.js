'use strict';

// Analysis Corp's app, as it runs in a pod: it works with Bank Corp's PostgreSQL again and again, over one
// connection that it keeps, and makes another when that one is lost. There is nothing of adit in it.
//
//   node app.js           works until it is told to end
//   node app.js --once    one round over a connection of its own; exit code 0 if all of it worked

const { Client } = require('pg');

const PAUSE_MS = 2000;
// Rounds that nobody needs to read about again: the first says it all.
const QUIET_ROUNDS = 15;

// host and port are the inlet's: 127.0.0.1 and not a name, because containers of a pod share one loopback.
// User, password and database are the bank's, which it gave to Analysis Corp.
async function connect() {
  const client = new Client({
    host: process.env.PGHOST,
    port: Number(process.env.PGPORT),
    user: process.env.PGUSER,
    password: process.env.PGPASSWORD,
    database: process.env.PGDATABASE,
    connectionTimeoutMillis: 5000,
    query_timeout: 5000,
  });
  // What happens to a connection between two rounds is found out by the next one.
  client.on('error', () => {});
  await client.connect();
  return client;
}

// One round: the app writes, and reads what it wrote.
async function work(client) {
  await client.query('CREATE TABLE IF NOT EXISTS risk_scores (account text PRIMARY KEY, score numeric NOT NULL, note text)');
  const rows = [
    ['DE-1001', 0.12, 'steady'],
    ['DE-1002', 0.87, 'look again in March'],
    ['DE-1003', 0.4, 'new'],
  ];
  for (const row of rows) {
    await client.query(
      `INSERT INTO risk_scores (account, score, note) VALUES ($1, $2, $3)
       ON CONFLICT (account) DO UPDATE SET score = EXCLUDED.score, note = EXCLUDED.note`,
      row,
    );
  }
  const found = await client.query('SELECT account, score, note FROM risk_scores ORDER BY score DESC');
  if (found.rows.length !== rows.length) {
    throw new Error(`${rows.length} rows were written and ${found.rows.length} came back`);
  }
  return found.rows;
}

async function once() {
  const client = await connect();
  console.table(await work(client));
  await client.end();
}

async function forever() {
  let client;
  let good = 0;
  for (;;) {
    try {
      if (!client) {
        client = await connect();
        good = 0;
      }
      const rows = await work(client);
      if (good === 0) {
        console.log('connected; the rows at Bank Corp:');
        console.table(rows);
      } else if (good % QUIET_ROUNDS === 0) {
        console.log(`${good} more rounds, each with ${rows.length} rows`);
      }
      good += 1;
    } catch (error) {
      // Where the portal is closed to the app, this is what the app sees: a connection that was reset, at once.
      console.log(`failed: ${error.code || ''} ${error.message}`);
      if (client) client.end().catch(() => {});
      client = undefined;
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

// The first process of a container gets no default handlers.
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));

if (process.argv[2] === '--once') {
  once().catch((error) => {
    console.error(`failed: ${error.code || ''} ${error.message}`);
    process.exitCode = 1;
  });
} else {
  forever();
}
