# Ruby's clients, driven by lines (see drivers.py): ruby drive.rb NAME
require "base64"
require "socket"
require "uri"

$stdout.sync = true
EVENTS = Queue.new

def word(data) = data.nil? ? "-" : "=" + Base64.strict_encode64(data)
def data(word) = Base64.strict_decode64(word[1..])
def tell(*words) = EVENTS << words.join(" ")
def message(received) = received.is_a?(String) ? tell("text", word(received)) : tell("binary", word(received.pack("C*")))

# faye-websocket, over EventMachine
class FayeClient
  def self.version
    require "eventmachine"
    require "faye/websocket"
    Gem.loaded_specs["faye-websocket"]&.version || Gem::Specification.find_by_name("faye-websocket").version
  end

  def initialize
    Thread.new { EventMachine.run }
    Thread.pass until EventMachine.reactor_running?
  end

  def connect(url)
    opened = false
    EventMachine.schedule do
      @socket = Faye::WebSocket::Client.new(url)
      @socket.on(:open) { opened = true; tell("open") }
      @socket.on(:message) { |event| message(event.data) }
      @socket.on(:close) { |event| opened ? tell("closed", event.code, word(event.reason)) : tell("refused", "-", "-") }
    end
  end

  def send(received) = EventMachine.schedule { @socket.send(received) }
  def close(code, reason) = EventMachine.schedule { @socket.close(code, reason) }
end

# What websocket-driver writes to: it has no socket of its own
class Link
  attr_reader :url, :socket

  def initialize(url)
    @url = url
    place = URI(url)
    @socket = TCPSocket.new(place.host, place.port)
  end

  def write(data) = @socket.write(data)
end

class DriverClient

  def self.version
    require "websocket/driver"
    Gem.loaded_specs["websocket-driver"]&.version || Gem::Specification.find_by_name("websocket-driver").version
  end

  def connect(url)
    link = Link.new(url)
    driver = @driver = WebSocket::Driver.client(link)
    opened = false
    driver.on(:open) { opened = true; tell("open") }
    driver.on(:message) { |event| message(event.data) }
    driver.on(:close) { |event| opened ? tell("closed", event.code, word(event.reason)) : tell("refused", "-", "-") }
    driver.on(:error) { tell("refused", "-", "-") unless opened }
    driver.start
    Thread.new do
      loop { driver.parse(link.socket.readpartial(65536)) }
    rescue EOFError, IOError, SystemCallError
      link.socket.shutdown rescue nil
    end
  end

  def send(received) = received.is_a?(String) ? @driver.text(received) : @driver.binary(received)
  def close(code, reason) = @driver.close(reason, code)
end

kind = { "faye-websocket" => FayeClient, "websocket-driver" => DriverClient }.fetch(ARGV[0])
begin
  puts "version #{kind.version}"
rescue LoadError
  puts "missing"
  exit
end
client = kind.new
$stdin.each_line(chomp: true) do |line|
  command, *words = line.split(" ")
  case command
  when "connect"
    EVENTS.clear
    client.connect(words[0])
    puts EVENTS.pop
  when "receive"
    puts EVENTS.pop
  when "close"
    client.close(Integer(words[0]), data(words[1]).force_encoding("UTF-8"))
    nil until EVENTS.pop.start_with?("closed")
    puts "done"
  else
    received = data(words[0])
    client.send(command == "text" ? received.force_encoding("UTF-8") : received.bytes)
    puts "done"
  end
end
exit!
