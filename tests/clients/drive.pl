# Perl's clients, driven by lines (see drivers.py): perl drive.pl NAME
use strict;
use warnings;
use MIME::Base64 qw(encode_base64 decode_base64);
use Encode qw(encode_utf8 decode_utf8);

$| = 1;
my @events;
sub word { defined $_[0] ? "=" . encode_base64($_[0], "") : "-" }
sub data { decode_base64(substr $_[0], 1) }
sub tell_event { push @events, join " ", @_ }

# Each has a loop of its own: `connect`, `send`, `close`, and `turn`, which waits for something to happen
package MojoClient {
    sub version { require Mojo::UserAgent; require Mojolicious; Mojolicious->VERSION }

    sub connect {
        my ($self, $url) = @_;
        $self->{agent} = Mojo::UserAgent->new(max_response_size => 0);
        $self->{agent}->websocket($url => $self->{headers} => sub {
            my ($agent, $transaction) = @_;
            unless ($transaction->is_websocket) {
                my $response = $transaction->res;
                return main::tell_event("refused", $response->code // "-", main::word($response->body));
            }
            $self->{socket} = $transaction;
            $transaction->max_websocket_size(4 << 20);
            $transaction->on(text => sub { main::tell_event("text", main::word($_[1])) });
            $transaction->on(binary => sub { main::tell_event("binary", main::word($_[1])) });
            $transaction->on(finish => sub {
                my ($transaction, $code, $reason) = @_;
                main::tell_event("closed", $code // 1005, main::word(main::encode_utf8($reason // "")));
            });
            main::tell_event("open");
        });
    }
    sub turn { Mojo::IOLoop->one_tick }
    sub send {
        my ($self, $kind, $data) = @_;
        my $gone = 0;
        $self->{socket}->send({$kind => $data}, sub { $gone = 1 });
        $self->turn until $gone;
    }
    sub close { my ($self, $code, $reason) = @_; $self->{socket}->finish($code, main::decode_utf8($reason)) }
}

package AnyEventWebSocket {
    sub version { require AnyEvent::WebSocket::Client; AnyEvent::WebSocket::Client->VERSION }

    sub connect {
        my ($self, $url) = @_;
        AnyEvent::WebSocket::Client->new(max_payload_size => 4 << 20)->connect($url)->cb(sub {
            my $socket = $self->{socket} = eval { $_[0]->recv } or return main::tell_event("refused", "-", "-");
            $socket->on(each_message => sub {
                my ($socket, $message) = @_;
                main::tell_event($message->is_text ? "text" : "binary", main::word($message->body));
            });
            $socket->on(finish => sub {
                my ($socket) = @_;
                main::tell_event("closed", $socket->close_code // 1006, main::word(main::encode_utf8($socket->close_reason // "")));
            });
            main::tell_event("open");
        });
    }
    sub turn { AnyEvent->_poll }
    sub send {
        my ($self, $kind, $data) = @_;
        my $opcode = $kind eq "text" ? 1 : 2;
        $self->{socket}->send(AnyEvent::WebSocket::Message->new(body => $data, opcode => $opcode));
    }
    sub close { my ($self, $code, $reason) = @_; $self->{socket}->close($code, main::decode_utf8($reason)) }
}

package main;

my %clients = (
    "Mojolicious" => [MojoClient => {}],
    "Mojolicious, compressing" => [MojoClient => {"Sec-WebSocket-Extensions" => "permessage-deflate"}],
    "AnyEvent::WebSocket::Client" => [AnyEventWebSocket => {}],
);
my ($package, $headers) = @{$clients{$ARGV[0]}};
my $client = bless {headers => $headers}, $package;

sub next_event {
    $client->turn until @events;
    return shift @events;
}

my $version = eval { $client->version };
print defined $version ? "version $version\n" : "missing\n";
while (my $line = <STDIN>) {
    chomp $line;
    my ($command, @words) = split / /, $line;
    if ($command eq "connect") {
        @events = ();
        $client->connect($words[0]);
        print next_event(), "\n";
    } elsif ($command eq "receive") {
        print next_event(), "\n";
    } elsif ($command eq "close") {
        $client->close($words[0], data($words[1]));
        1 until next_event() =~ /^closed/;
        print "done\n";
    } else {
        $client->send($command, data($words[0]));
        print "done\n";
    }
}
