<?php
/**
 * Signed URLs for the thumbnail service. Needs no package; tested with PHP 8.2.
 *
 *     export SIGNING_KEYS=k1:<hex>
 *     php signed_url.php https://thumbs.example.com /thumb url=https://example.com/ thumb_width=400
 */

declare(strict_types=1);

/**
 * The signed URL of $path, such as /thumb, of the service that is published at $base.
 *
 * $parameters holds values by name; null is left out, a list repeats its name. $keys is what the
 * service has in SIGNING_KEYS; the first one signs. $exp: unix seconds.
 */
function thumbnailer_signed_url(string $base, string $path, array $parameters, string $keys, ?int $exp = null): string
{
    [$kid, $secret] = explode(':', trim(explode(',', $keys)[0]), 2);
    $parameters['kid'] = $kid;
    $parameters['exp'] = $exp;
    $pairs = [];
    foreach ($parameters as $name => $values) {
        foreach (is_array($values) ? $values : [$values] as $value) {
            if ($value !== null) {
                $text = is_bool($value) ? ($value ? 'true' : 'false') : (string) $value;
                $pairs[] = [rawurlencode((string) $name), rawurlencode($text)];
            }
        }
    }
    // Not ksort(), to which "10" and "1e1" are the same number.
    usort($pairs, fn (array $a, array $b): int => strcmp($a[0], $b[0]) ?: strcmp($a[1], $b[1]));
    $query = implode('&', array_map(fn (array $pair): string => "$pair[0]=$pair[1]", $pairs));
    $path = implode('/', array_map('rawurlencode', explode('/', $path)));
    $digest = hash_hmac('sha256', "v1\n$path?$query", hex2bin($secret), true);
    $sig = rtrim(strtr(base64_encode($digest), '+/', '-_'), '=');
    return "$base$path?$query&sig=$sig";
}

if (PHP_SAPI === 'cli' && realpath($_SERVER['SCRIPT_FILENAME']) === __FILE__) {
    [, $base, $path] = $argv;
    $parameters = [];
    foreach (array_slice($argv, 3) as $option) {
        [$name, $value] = explode('=', $option, 2);
        $parameters[$name][] = $value;
    }
    echo thumbnailer_signed_url($base, $path, $parameters, getenv('SIGNING_KEYS')), "\n";
}
