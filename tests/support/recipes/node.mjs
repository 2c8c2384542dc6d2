// Signs every vector by one of the recipes in JavaScript, named by its file.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [recipe, form] = process.argv.slice(2);
const { signedUrl } = await import(pathToFileURL(recipe));
const { keys, vectors } = JSON.parse(readFileSync(0, 'utf8'));
const urls = [];
for (const { base, path, parameters, kid, exp } of vectors) {
  const given = form === 'object' ? Object.fromEntries(parameters) : parameters;
  urls.push(await signedUrl(base, path, given, `${kid}:${keys[kid]}`, exp));
}
process.stdout.write(JSON.stringify(urls));
