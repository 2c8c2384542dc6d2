# frozen_string_literal: true

# Signs every vector by the recipe in Ruby.
require 'json'
require File.expand_path(ARGV.fetch(0))

document = JSON.parse($stdin.read)
urls = document['vectors'].map do |vector|
  key = "#{vector['kid']}:#{document['keys'][vector['kid']]}"
  Thumbnailer.signed_url(vector['base'], vector['path'], vector['parameters'], key, exp: vector['exp'])
end
puts JSON.generate(urls)
