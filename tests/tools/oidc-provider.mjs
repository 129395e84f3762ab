// An OpenID provider for tests: the library oidc-provider with one client, which gets tokens for itself.
//
//     oidc-provider [--port PORT] [--audience AUDIENCE] [--algorithm RS256] [--lifetime SECONDS] [--claims JSON]
//
// It listens on 127.0.0.1, prints its issuer, and gives a token for
//     POST /token   grant_type=client_credentials  (client ci, secret ci-secret)
// The claims of --claims are put into each token. SIGHUP makes a new key, and publishes it alone.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

import { Provider } from 'oidc-provider';

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    audience: { type: 'string', default: 'registry' },
    algorithm: { type: 'string', default: 'RS256' },
    lifetime: { type: 'string', default: '300' },
    claims: { type: 'string', default: '{}' },
  },
});
const claims = JSON.parse(options.claims);
const resource = 'https://registry.example.org';

function key() {
  const algorithm = options.algorithm;
  const pair = algorithm.startsWith('ES')
    ? generateKeyPairSync('ec', { namedCurve: `P-${algorithm.slice(2)}` })
    : algorithm === 'EdDSA'
      ? generateKeyPairSync('ed25519')
      : generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...pair.privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: algorithm };
}

function provider(issuer) {
  const made = new Provider(issuer, {
    clients: [
      {
        client_id: 'ci',
        client_secret: 'ci-secret',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        id_token_signed_response_alg: options.algorithm,
      },
    ],
    jwks: { keys: [key()] },
    enabledJWA: { idTokenSigningAlgValues: [options.algorithm] },
    ttl: { ClientCredentials: Number(options.lifetime) },
    extraTokenClaims: () => claims,
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => resource,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: '',
          audience: options.audience,
          accessTokenFormat: 'jwt',
          accessTokenTTL: Number(options.lifetime),
          jwt: { sign: { alg: options.algorithm } },
        }),
      },
    },
  });
  return made.callback();
}

let answer;
const server = createServer((request, response) => answer(request, response));
server.listen(Number(options.port), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  answer = provider(issuer);
  process.on('SIGHUP', () => {
    answer = provider(issuer);
  });
  console.log(issuer);
});
