'use strict';
// Lets a Node program reach the mock server whether or not it takes account of proxies; `seedbed run` names this file in
// NODE_OPTIONS. Every library connects through net.Socket, TLS included, so that one change covers all of them. The name
// in the TLS handshake and in the Host header stays that of the paid service.
try {
  install(JSON.parse(process.env.SEEDBED_HOOK || 'null'));
} catch (error) {
  process.stderr.write(`seedbed run: the hook for Node does not work: ${error}\n`);
}

function install(settings) {
  if (!settings) return;
  const net = require('net');
  const connect = net.Socket.prototype.connect;

  function isRedirected(host) {
    if (typeof host !== 'string') return false;
    const name = host.toLowerCase().replace(/\.$/, '');
    return settings.hosts.includes(name) || settings.domains.some((each) => `.${name}`.endsWith(`.${each}`));
  }

  net.Socket.prototype.connect = function (...args) {
    // Node passes its own calls on as [options, callback].
    const inner = Array.isArray(args[0]) ? args[0] : args;
    const [first, second] = inner;
    if (first && typeof first === 'object') {
      if (isRedirected(first.host)) {
        inner[0] = { ...first, host: settings.address, port: settings.port, lookup: undefined };
      }
    } else if (isRedirected(second)) {
      [inner[0], inner[1]] = [settings.port, settings.address];
    }
    if (settings.egress === 'deny') {
      const host = inner[0] && typeof inner[0] === 'object' ? inner[0].host : inner[1];
      if (isPublic(host)) {
        process.nextTick(() => this.destroy(refusal(host)));
        return this;
      }
      this.once('lookup', (error, address) => isPublic(address) && this.destroy(refusal(address)));
    }
    return connect.apply(this, args);
  };

  function refusal(address) {
    const error = new Error(`seedbed run --egress deny refuses connections to ${address}`);
    return Object.assign(error, { code: 'ECONNREFUSED', address });
  }

  const inside = new net.BlockList();
  for (const [address, bits] of [['0.0.0.0', 8], ['10.0.0.0', 8], ['127.0.0.0', 8], ['169.254.0.0', 16],
    ['172.16.0.0', 12], ['192.168.0.0', 16]]) inside.addSubnet(address, bits, 'ipv4');
  for (const [address, bits] of [['::', 127], ['fc00::', 7], ['fe80::', 10]]) inside.addSubnet(address, bits, 'ipv6');

  function isPublic(address) {
    const family = typeof address === 'string' ? net.isIP(address) : 0;
    return family !== 0 && !inside.check(address, family === 6 ? 'ipv6' : 'ipv4');
  }
}
