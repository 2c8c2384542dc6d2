/**
 * Signed URLs for the thumbnail service. Needs no package; tested with Node.js 20.
 *
 *     export SIGNING_KEYS=k1:<hex>
 *     node signed_url.mjs https://thumbs.example.com /thumb url=https://example.com/ thumb_width=400
 */

import { createHmac } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * The signed URL of `path`, such as `/thumb`, of the service that is published at `base`.
 *
 * `parameters` is an object, or an array of [name, value]; undefined and null are left out. `keys` is
 * what the service has in SIGNING_KEYS; the first one signs. `exp`: unix seconds, a whole number.
 */
export function signedUrl(base, path, parameters, keys, exp) {
  const [kid, secret] = keys.split(',')[0].trim().split(':');
  if (!/^([0-9a-f]{2}){32,64}$/i.test(secret)) throw new Error('The signing key must be id:hex.');
  const given = Array.isArray(parameters) ? parameters : Object.entries(parameters);
  const query = [...given, ['kid', kid], ['exp', exp]]
    .filter(([, value]) => value !== undefined && value !== null)
    .map((pair) => pair.map(encode))
    .sort((one, other) => compare(one[0], other[0]) || compare(one[1], other[1]))
    .map((pair) => pair.join('='))
    .join('&');
  const encodedPath = path.split('/').map(encode).join('/');
  const sig = createHmac('sha256', Buffer.from(secret, 'hex'))
    .update(`v1\n${encodedPath}?${query}`)
    .digest('base64url');
  return `${base}${encodedPath}?${query}&sig=${sig}`;
}

/** RFC 3986: only letters, digits and -._~ stay as they are; encodeURIComponent leaves five more. */
function encode(value) {
  return encodeURIComponent(String(value)).replace(
    /[!'()*]/g,
    (character) => '%' + character.charCodeAt(0).toString(16).toUpperCase(),
  );
}

/** By code units. Encoded text is ASCII; localeCompare would sort it by a language's habits. */
function compare(one, other) {
  return one < other ? -1 : one > other ? 1 : 0;
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const [base, path, ...options] = process.argv.slice(2);
  const parameters = options.map((option) => [
    option.slice(0, option.indexOf('=')),
    option.slice(option.indexOf('=') + 1),
  ]);
  console.log(signedUrl(base, path, parameters, process.env.SIGNING_KEYS));
}
