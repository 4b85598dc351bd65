-- Has wrk send 16 requests at a time on each connection.
function init()
    local one = {}
    for i = 1, 16 do
        one[i] = wrk.format("GET")
    end
    batch = table.concat(one)
end

function request()
    return batch
end
