# frozen_string_literal: true

# Signed URLs for the thumbnail service. Needs no gem; tested with Ruby 3.1.
#
#     export SIGNING_KEYS=k1:<hex>
#     ruby signed_url.rb https://thumbs.example.com /thumb url=https://example.com/ thumb_width=400

require 'erb'
require 'openssl'

module Thumbnailer
  # The signed URL of +path+, such as /thumb, of the service that is published at +base+.
  #
  # +parameters+ is a hash, or an array of [name, value]; nil is left out. +keys+ is what the service
  # has in SIGNING_KEYS; the first one signs. +exp+: unix seconds, a whole number.
  def self.signed_url(base, path, parameters, keys, exp: nil)
    kid, secret = keys.split(',').first.strip.split(':', 2)
    raise ArgumentError, 'The signing key must be id:hex.' unless secret.to_s.match?(/\A(\h\h){32,64}\z/)

    pairs = [*parameters.to_a, ['kid', kid], ['exp', exp]].reject { |_, value| value.nil? }
    query = pairs.map { |pair| pair.map { |part| encode(part) } }.sort.map { |pair| pair.join('=') }.join('&')
    path = path.split('/', -1).map { |part| encode(part) }.join('/')
    digest = OpenSSL::HMAC.digest('SHA256', [secret].pack('H*'), "v1\n#{path}?#{query}")
    "#{base}#{path}?#{query}&sig=#{[digest].pack('m0').tr('+/', '-_').delete('=')}"
  end

  # RFC 3986: only letters, digits and -._~ stay as they are.
  def self.encode(value)
    ERB::Util.url_encode(value.to_s)
  end
  private_class_method :encode
end

if $PROGRAM_NAME == __FILE__
  base, path, *options = ARGV
  parameters = options.map { |option| option.split('=', 2) }
  puts Thumbnailer.signed_url(base, path, parameters, ENV.fetch('SIGNING_KEYS'))
end
