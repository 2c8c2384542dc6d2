<?php
// Signs every vector by the recipe in PHP.
declare(strict_types=1);

require $argv[1];

['keys' => $keys, 'vectors' => $vectors] = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
$urls = [];
foreach ($vectors as $vector) {
    $parameters = [];
    foreach ($vector['parameters'] as [$name, $value]) {
        $parameters[$name][] = $value;
    }
    $kid = $vector['kid'];
    $urls[] = thumbnailer_signed_url($vector['base'], $vector['path'], $parameters, "$kid:$keys[$kid]", $vector['exp']);
}
echo json_encode($urls, JSON_THROW_ON_ERROR);
