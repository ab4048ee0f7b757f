-- What REST callers see beside the body (docs/reference/HTTP_API_CONTRACT.md, headers and errors).

math.randomseed(os.time() + tonumber(string.sub(tostring({}), -6), 16))

local function is_grpc(headers)
  return string.sub(headers:get("content-type") or "", 1, 16) == "application/grpc"
end

-- Tells Envoy's error formats who asks: the transcoder makes every request look like gRPC.
-- A request id that is too long or holds more than visible ASCII is replaced before it is logged or echoed.
function envoy_on_request(handle)
  local headers = handle:headers()
  headers:replace("x-decisiongraph-transport", is_grpc(headers) and "grpc" or "rest")
  local id = headers:get("x-request-id")
  if id == nil or #id == 0 or #id > 128 or string.find(id, "[^\33-\126]") then
    local fresh = string.format("%07x%07x%07x", math.random(0, 0xfffffff), math.random(0, 0xfffffff), math.random(0, 0xfffffff))
    headers:replace("x-request-id", fresh)
  end
end

-- gRPC codes alone cannot tell 422 from 400, so the server names the HTTP status of its error in a header.
function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get("x-http-status")
  if status == nil then return end
  headers:remove("x-http-status")
  if not is_grpc(headers) then headers:replace(":status", status) end
end
