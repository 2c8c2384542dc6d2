-- For wrk: asks for the paths that follow the URL, in turn, and tells what came of it as JSON.
local requests, at = {}, 0

function init(args)
    for number, path in ipairs(args) do
        requests[number] = wrk.format("GET", path)
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '\n{"answers": %d, "microseconds": %d, "bytes": %d, "p99": %d, "failed": %d, "broken": %d}\n',
        summary.requests, summary.duration, summary.bytes, latency:percentile(99),
        errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
