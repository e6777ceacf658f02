// Go's clients, driven by lines (see drivers.py): drive NAME
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	gorilla "github.com/gorilla/websocket"
	xnet "golang.org/x/net/websocket"
	nhooyr "nhooyr.io/websocket"
)

// Said when it is built
var gorillaVersion, xnetVersion, nhooyrVersion string

const most = 4 << 20 // bytes of a message

type client interface {
	version() string
	connect(url string) string
	send(text bool, data []byte) error
	receive() string
	close(code int, reason string)
}

func word(data []byte) string { return "=" + base64.StdEncoding.EncodeToString(data) }

func data(word string) []byte {
	data, err := base64.StdEncoding.DecodeString(word[1:])
	if err != nil {
		panic(err)
	}
	return data
}

func message(text bool, data []byte) string {
	if text {
		return "text " + word(data)
	}
	return "binary " + word(data)
}

func closed(code int, reason string) string { return fmt.Sprintf("closed %d %s", code, word([]byte(reason))) }

func refused(status int, body io.Reader) string {
	read, _ := io.ReadAll(body)
	if len(read) == 0 {
		return fmt.Sprintf("refused %d -", status)
	}
	return fmt.Sprintf("refused %d %s", status, word(read))
}

func (c *gorillaClient) version() string { return gorillaVersion }
func (c *xnetClient) version() string    { return xnetVersion }
func (c *nhooyrClient) version() string  { return nhooyrVersion }

type gorillaClient struct {
	compress bool
	conn     *gorilla.Conn
}

func (c *gorillaClient) connect(url string) string {
	dialer := gorilla.Dialer{EnableCompression: c.compress}
	conn, response, err := dialer.Dial(url, nil)
	if err != nil {
		if response == nil {
			return "refused - -"
		}
		return refused(response.StatusCode, response.Body)
	}
	c.conn = conn
	return "open"
}

func (c *gorillaClient) send(text bool, data []byte) error {
	if text {
		return c.conn.WriteMessage(gorilla.TextMessage, data)
	}
	return c.conn.WriteMessage(gorilla.BinaryMessage, data)
}

func (c *gorillaClient) receive() string {
	kind, data, err := c.conn.ReadMessage()
	var end *gorilla.CloseError
	if errors.As(err, &end) {
		return closed(end.Code, end.Text)
	}
	if err != nil {
		return "lost " + word([]byte(err.Error()))
	}
	return message(kind == gorilla.TextMessage, data)
}

func (c *gorillaClient) close(code int, reason string) {
	deadline := time.Now().Add(5 * time.Second)
	c.conn.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(code, reason), deadline)
	c.receive()
	c.conn.Close()
}

type xnetClient struct{ conn *xnet.Conn }

func (c *xnetClient) connect(url string) string {
	conn, err := xnet.Dial(url, "", "http://127.0.0.1/")
	if err != nil {
		return "refused - -"
	}
	conn.MaxPayloadBytes = most
	c.conn = conn
	return "open"
}

func (c *xnetClient) send(text bool, data []byte) error {
	if text {
		return xnet.Message.Send(c.conn, string(data))
	}
	return xnet.Message.Send(c.conn, data)
}

// The codec that tells what kind a message is
var codec = xnet.Codec{Unmarshal: func(data []byte, kind byte, into interface{}) error {
	*into.(*string) = message(kind == xnet.TextFrame, data)
	return nil
}}

func (c *xnetClient) receive() string {
	var received string
	if err := codec.Receive(c.conn, &received); err != nil {
		return "lost " + word([]byte(err.Error()))
	}
	return received
}

func (c *xnetClient) close(code int, reason string) { c.conn.Close() }

type nhooyrClient struct{ conn *nhooyr.Conn }

func (c *nhooyrClient) connect(url string) string {
	conn, response, err := nhooyr.Dial(context.Background(), url, nil)
	if err != nil {
		if response == nil || response.StatusCode == 101 {
			return "refused - -"
		}
		return refused(response.StatusCode, response.Body)
	}
	conn.SetReadLimit(most)
	c.conn = conn
	return "open"
}

func (c *nhooyrClient) send(text bool, data []byte) error {
	kind := nhooyr.MessageBinary
	if text {
		kind = nhooyr.MessageText
	}
	return c.conn.Write(context.Background(), kind, data)
}

func (c *nhooyrClient) receive() string {
	kind, data, err := c.conn.Read(context.Background())
	var end nhooyr.CloseError
	if errors.As(err, &end) {
		return closed(int(end.Code), end.Reason)
	}
	if err != nil {
		return "lost " + word([]byte(err.Error()))
	}
	return message(kind == nhooyr.MessageText, data)
}

func (c *nhooyrClient) close(code int, reason string) { c.conn.Close(nhooyr.StatusCode(code), reason) }

func main() {
	client := map[string]client{
		"gorilla":             &gorillaClient{},
		"gorilla, compressing": &gorillaClient{compress: true},
		"x/net":               &xnetClient{},
		"nhooyr":              &nhooyrClient{},
	}[os.Args[1]]
	fmt.Println("version", client.version())
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		switch words[0] {
		case "connect":
			fmt.Println(client.connect(words[1]))
		case "receive":
			fmt.Println(client.receive())
		case "close":
			code, _ := strconv.Atoi(words[1])
			client.close(code, string(data(words[2])))
			fmt.Println("done")
		default:
			if err := client.send(words[0] == "text", data(words[1])); err != nil {
				panic(err)
			}
			fmt.Println("done")
		}
	}
}
