-- What REST callers see beside the body (docs/reference/HTTP_API_CONTRACT.md, headers and errors).

math.randomseed(os.time() + tonumber(string.sub(tostring({}), -6), 16))

-- gRPC servers take 8 KiB of metadata, each counted with 32 bytes more; the rest is for what is added on the way.
local MAX_HEADER_BYTES = 7168

local SECURITY_HEADERS = {
  ["cache-control"] = "no-store",
  ["content-security-policy"] = "default-src 'none'; frame-ancestors 'none'",
  ["referrer-policy"] = "no-referrer",
  ["x-content-type-options"] = "nosniff",
  ["x-frame-options"] = "DENY",
}

local function is_grpc(headers)
  return string.sub(headers:get("content-type") or "", 1, 16) == "application/grpc"
end

-- The path is not among them: of a REST call it goes into the message.
local function header_bytes(headers)
  local total = 0
  for name, value in pairs(headers) do
    if name ~= ":path" then total = total + #name + #value + 32 end
  end
  return total
end

-- gRPC's own library answers a header that it cannot read with INTERNAL: a name that HTTP allows and gRPC does not, one
-- that gRPC uses itself, and binary ones (`-bin`) that are no base64. REST callers have no use for any of them.
local function remove_headers_that_grpc_reads_otherwise(headers)
  local names = {}
  for name, _ in pairs(headers) do
    local reserved = string.sub(name, 1, 5) == "grpc-" and name ~= "grpc-timeout"
    local readable = string.sub(name, 1, 1) == ":" or not string.find(name, "[^0-9a-z._-]")
    if reserved or not readable or string.sub(name, -4) == "-bin" then table.insert(names, name) end
  end
  for _, name in ipairs(names) do headers:remove(name) end
end

-- Tells Envoy's error formats who asks: the transcoder makes every request look like gRPC.
-- A request id that is too long or holds more than visible ASCII is replaced before it is logged or echoed.
function envoy_on_request(handle)
  local headers = handle:headers()
  local grpc = is_grpc(headers)
  headers:replace("x-decisiongraph-transport", grpc and "grpc" or "rest")
  local id = headers:get("x-request-id")
  if id == nil or #id == 0 or #id > 128 or string.find(id, "[^\33-\126]") then
    local fresh = string.format("%07x%07x%07x", math.random(0, 0xfffffff), math.random(0, 0xfffffff), math.random(0, 0xfffffff))
    headers:replace("x-request-id", fresh)
  end
  if not grpc then remove_headers_that_grpc_reads_otherwise(headers) end
  -- It answers a malformed deadline with INTERNAL too.
  local deadline = headers:get("grpc-timeout")
  if not grpc and deadline ~= nil and not string.find(deadline, "^%d%d?%d?%d?%d?%d?%d?%d?[HMSmun]$") then
    headers:remove("grpc-timeout")
  end
  if not grpc and header_bytes(headers) > MAX_HEADER_BYTES then
    handle:respond({[":status"] = "431"}, "")
  end
end

-- The transcoder's messages repeat pieces of the request, which may be secrets: lines that show where it broke off, and
-- values that do not fit their field.
local function remove_values(handle)
  handle:headers():remove("x-decisiongraph-edge")
  local body = handle:body()
  if body == nil then return end
  local text = body:getBytes(0, body:length())
  local before, message, after = string.match(text, '^(.*"message":")(.*)("}%s*)$')
  if message == nil then return end
  for _, line_end in ipairs({"\\n", "\\u000a"}) do
    message = string.sub(message, 1, (string.find(message, line_end, 1, true) or 0) - 1)
  end
  message = string.gsub(message, "invalid value .* for type", "invalid value for type")
  handle:headers():replace("content-length", body:setBytes(before .. message .. after))
end

-- gRPC codes alone cannot tell 422 from 400, so the server names the HTTP status of its error in a header.
function envoy_on_response(handle)
  if handle:headers():get("x-decisiongraph-edge") then remove_values(handle) end
  local headers = handle:headers()
  if not is_grpc(headers) then
    -- Answers are data for programs: no browser is to guess, frame, store or run them.
    for name, value in pairs(SECURITY_HEADERS) do headers:replace(name, value) end
  end
  local status = headers:get("x-http-status")
  if status == nil then return end
  headers:remove("x-http-status")
  if not is_grpc(headers) then headers:replace(":status", status) end
end
