/**
 * Signed URLs for the thumbnail service, by Web Crypto alone, as edge workers have it; tested with Node.js 20.
 *
 * For servers only. A key that a page's script can read is nobody's secret any more.
 *
 *     const url = await signedUrl('https://thumbs.example.com', '/thumb', { url, thumb_width: 400 }, env.SIGNING_KEYS);
 */

/**
 * The signed URL of `path`, such as `/thumb`, of the service that is published at `base`.
 *
 * `parameters` is an object, or an array of [name, value]; undefined and null are left out. `keys` is
 * what the service has in SIGNING_KEYS; the first one signs. `exp`: unix seconds, a whole number.
 */
export async function signedUrl(base, path, parameters, keys, exp) {
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
  const sig = await hmacSha256(secret, `v1\n${encodedPath}?${query}`);
  return `${base}${encodedPath}?${query}&sig=${sig}`;
}

/** In base64url without padding. */
async function hmacSha256(secretHex, text) {
  const secret = Uint8Array.from(secretHex.match(/../g), (digits) => parseInt(digits, 16));
  const algorithm = { name: 'HMAC', hash: 'SHA-256' };
  const key = await crypto.subtle.importKey('raw', secret, algorithm, false, ['sign']);
  const digest = await crypto.subtle.sign('HMAC', key, new TextEncoder().encode(text));
  return btoa(String.fromCharCode(...new Uint8Array(digest)))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');
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
