vcl 4.1;

# Varnish as packaged: everything by its own rules, before a server of static files.
backend default {
    .host = "127.0.0.1";
    .port = "@PORT@";
}
