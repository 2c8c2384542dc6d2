<?php
/**
 * Plugin Name: Thumbnails of web pages
 * Description: [page_thumbnail url="https://example.com/" width="400" alt="Example"] shows a picture of that page.
 * Requires PHP: 7.4
 *
 * Put this file and signed_url.php into wp-content/plugins/page-thumbnails/, switch the plugin on, and
 * say in wp-config.php where the service is and how its URLs are signed:
 *
 *     define('THUMBNAILER_BASE', 'https://thumbs.example.com');
 *     define('THUMBNAILER_SIGNING_KEYS', 'k1:<hex>');
 *
 * The picture is 16 by 9 unless the shortcode has a height, too; dense screens get it in twice the density.
 */

declare(strict_types=1);

require_once __DIR__ . '/signed_url.php';

/** The <img> of a page; $attributes are those of the shortcode. */
function page_thumbnail_shortcode($attributes): string
{
    $given = shortcode_atts(
        ['url' => '', 'width' => '400', 'height' => '', 'format' => 'webp', 'alt' => ''],
        $attributes
    );
    // Both sides, so that the place which the browser keeps free is as large as the picture that comes.
    $width = (int) $given['width'];
    $height = (int) $given['height'] ?: (int) round($width * 9 / 16);
    $parameters = [
        // The editors store an ampersand as an entity.
        'url' => html_entity_decode($given['url'], ENT_QUOTES | ENT_HTML5, 'UTF-8'),
        'thumb_width' => $width,
        'thumb_height' => $height,
        'fit' => 'cover',
        'format' => $given['format'],
    ];
    // Not esc_url(): it takes encoded line ends out, and the signature would not fit any more.
    return sprintf(
        '<img src="%s" srcset="%s 2x" width="%d" height="%d" alt="%s" loading="lazy" decoding="async">',
        esc_attr(page_thumbnail_url($parameters)),
        esc_attr(page_thumbnail_url($parameters + ['dpr' => 2])),
        $width,
        $height,
        esc_attr($given['alt'])
    );
}

/** A signed URL that stays the same all day long, so that caches have something to keep; good for one to two days. */
function page_thumbnail_url(array $parameters): string
{
    $exp = (intdiv(time(), 86400) + 2) * 86400;
    return thumbnailer_signed_url(THUMBNAILER_BASE, '/thumb', $parameters, THUMBNAILER_SIGNING_KEYS, $exp);
}

add_shortcode('page_thumbnail', 'page_thumbnail_shortcode');
