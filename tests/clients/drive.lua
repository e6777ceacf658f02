-- Lua's client, that of lua-http, driven by lines (see drivers.py): lua5.1 drive.lua
local is_installed, version = pcall(require, "http.version")
if not is_installed then
  print "missing"
  os.exit()
end
local websocket = require "http.websocket"

-- That of basexx, which comes with lua-http, takes a minute for a mebibyte
local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local VALUES, DIGITS = { [("="):byte()] = 0 }, {}
for i = 1, 64 do
  VALUES[ALPHABET:byte(i)] = i - 1
  DIGITS[i - 1] = ALPHABET:sub(i, i)
end

local function word(data)
  local encoded = data:gsub("..?.?", function(three)
    local a, b, c = three:byte(1, 3)
    local value = a * 65536 + (b or 0) * 256 + (c or 0)
    local digits = DIGITS[math.floor(value / 262144)] .. DIGITS[math.floor(value / 4096) % 64]
    return digits .. (b and DIGITS[math.floor(value / 64) % 64] or "=") .. (c and DIGITS[value % 64] or "=")
  end)
  return "=" .. encoded
end

local function data(text)
  local decoded = text:sub(2):gsub("....", function(four)
    local a, b, c, d = four:byte(1, 4)
    local value = VALUES[a] * 262144 + VALUES[b] * 4096 + VALUES[c] * 64 + VALUES[d]
    local bytes = string.char(math.floor(value / 65536), math.floor(value / 256) % 256, value % 256)
    return bytes:sub(1, 3 - (four:match "=*$"):len())
  end)
  return decoded
end

local socket

local function receive()
  local received, kind, code = socket:receive(20)
  if received then return kind .. " " .. word(received) end
  if type(socket.got_close_code) == "number" then
    return "closed " .. socket.got_close_code .. " " .. word(socket.got_close_message or "")
  end
  return "lost " .. word(tostring(kind) .. " " .. tostring(code))
end

local answers = {
  connect = function(url)
    socket = websocket.new_from_uri(url)
    local opened, why = socket:connect(20)
    if opened then return "open" end
    local headers = socket.headers
    return "refused " .. (headers and headers:get ":status" or "-") .. " -"
  end,
  receive = receive,
  text = function(text) assert(socket:send(data(text), "text")) return "done" end,
  binary = function(text) assert(socket:send(data(text), "binary")) return "done" end,
  close = function(code, reason)
    socket:close(tonumber(code), data(reason), 5)
    return "done"
  end,
}

io.stdout:setvbuf "line"
print("version " .. version.version)
for line in io.lines() do
  local command, first, second = line:match "^(%S+) ?(%S*) ?(%S*)$"
  print(answers[command](first, second))
end
os.exit()
