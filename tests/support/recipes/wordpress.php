<?php
// The three functions of WordPress that the plugin calls, and one page with its shortcode.
declare(strict_types=1);

$shortcodes = [];

function add_shortcode(string $tag, callable $callback): void
{
    $GLOBALS['shortcodes'][$tag] = $callback;
}

// As wp-includes/shortcodes.php: names that the plugin does not know are dropped.
function shortcode_atts(array $pairs, $given): array
{
    return array_merge($pairs, array_intersect_key((array) $given, $pairs));
}

// As wp-includes/formatting.php: entities that are there already are not encoded again.
function esc_attr(string $text): string
{
    return htmlspecialchars($text, ENT_QUOTES, 'UTF-8', false);
}

define('THUMBNAILER_BASE', $argv[2]);
define('THUMBNAILER_SIGNING_KEYS', $argv[3]);
require $argv[1];

echo $shortcodes['page_thumbnail'](json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR));
