'use strict';

// Looks at the network from where it runs: three small commands for run.sh.
//
//   node net.js ports N              prints N free ports of the loopback
//   node net.js listen PORT          greets whoever connects, on every address; prints `listening`
//   node net.js try HOST PORT        prints how an attempt to connect ends within two seconds

const net = require('net');

// How an attempt went: `greeted`, `open` if nothing more happens within two seconds, `no answer` if
// not even the connection came about, else what ended it.
function attempt(host, port, done) {
  const started = Date.now();
  const socket = net.connect({ host, port });
  const say = (what) => {
    clearTimeout(tooLong);
    socket.destroy();
    done(what, Date.now() - started);
  };
  const tooLong = setTimeout(() => say(socket.connecting ? 'no answer' : 'open'), 2000);
  socket.on('error', (error) => say(error.code));
  socket.on('data', () => say('greeted'));
  socket.on('end', () => say('closed'));
}

const [what, ...args] = process.argv.slice(2);
if (what === 'ports') {
  // All of them are held until the last one is there, so that no two are the same.
  const servers = [];
  const next = () => {
    if (servers.length === Number(args[0])) {
      console.log(servers.map((server) => server.address().port).join(' '));
      servers.forEach((server) => server.close());
      return;
    }
    const server = net.createServer().listen(0, '127.0.0.1', next);
    servers.push(server);
  };
  next();
} else if (what === 'listen') {
  net.createServer((socket) => socket.end('hello')).listen(Number(args[0]), '0.0.0.0', () => console.log('listening'));
} else if (what === 'try') {
  attempt(args[0], Number(args[1]), (how, ms) => console.log(`${how} after ${ms} ms`));
} else {
  console.error('net.js: ports N | listen PORT | try HOST PORT');
  process.exitCode = 2;
}
