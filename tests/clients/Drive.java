// Java's client, java.net.http, driven by lines (see drivers.py): java Drive.java
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpResponse;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;

public class Drive implements WebSocket.Listener {
    static final LinkedBlockingQueue<String> EVENTS = new LinkedBlockingQueue<>();

    final StringBuilder text = new StringBuilder();
    final ByteArrayOutputStream binary = new ByteArrayOutputStream();

    static String word(byte[] data) {
        return "=" + Base64.getEncoder().encodeToString(data);
    }

    static String word(String data) {
        return word(data.getBytes(StandardCharsets.UTF_8));
    }

    static byte[] data(String word) {
        return Base64.getDecoder().decode(word.substring(1));
    }

    @Override
    public CompletionStage<?> onText(WebSocket socket, CharSequence piece, boolean last) {
        text.append(piece);
        if (last) {
            EVENTS.add("text " + word(text.toString()));
            text.setLength(0);
        }
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onBinary(WebSocket socket, ByteBuffer piece, boolean last) {
        byte[] bytes = new byte[piece.remaining()];
        piece.get(bytes);
        binary.writeBytes(bytes);
        if (last) {
            EVENTS.add("binary " + word(binary.toByteArray()));
            binary.reset();
        }
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
        EVENTS.add("closed " + code + " " + word(reason));
        return null;
    }

    @Override
    public void onError(WebSocket socket, Throwable error) {
        EVENTS.add("lost " + word(error.toString()));
    }

    static WebSocket socket;

    static String connect(String url) {
        EVENTS.clear();
        try {
            socket = HttpClient.newHttpClient().newWebSocketBuilder().buildAsync(URI.create(url), new Drive()).join();
            return "open";
        } catch (CompletionException error) {
            if (!(error.getCause() instanceof WebSocketHandshakeException)) {
                return "refused - -";
            }
            HttpResponse<?> response = ((WebSocketHandshakeException) error.getCause()).getResponse();
            return "refused " + response.statusCode() + " " + (response.body() == null ? "-" : word(response.body().toString()));
        }
    }

    static String answer(String[] words) throws InterruptedException {
        switch (words[0]) {
            case "connect":
                return connect(words[1]);
            case "receive":
                return EVENTS.take();
            case "text":
                socket.sendText(new String(data(words[1]), StandardCharsets.UTF_8), true).join();
                return "done";
            case "binary":
                socket.sendBinary(ByteBuffer.wrap(data(words[1])), true).join();
                return "done";
            default:
                socket.sendClose(Integer.parseInt(words[1]), new String(data(words[2]), StandardCharsets.UTF_8)).join();
                String event;
                do {
                    event = EVENTS.take();
                } while (!event.startsWith("closed") && !event.startsWith("lost"));
                return "done";
        }
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("version " + Runtime.version().feature());
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        String line;
        while ((line = lines.readLine()) != null) {
            System.out.println(answer(line.split(" ")));
        }
        System.exit(0);
    }
}
