// The client of Jetty, driven by lines (see drivers.py): java -cp CLASSPATH Jetty.java NAME
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import org.eclipse.jetty.util.Jetty;
import org.eclipse.jetty.websocket.api.Session;
import org.eclipse.jetty.websocket.api.UpgradeException;
import org.eclipse.jetty.websocket.api.WebSocketAdapter;
import org.eclipse.jetty.websocket.client.ClientUpgradeRequest;
import org.eclipse.jetty.websocket.client.WebSocketClient;

public class Driver {
    static final LinkedBlockingQueue<String> EVENTS = new LinkedBlockingQueue<>();
    static final int MOST = 4 << 20; // bytes of a message

    static class Socket extends WebSocketAdapter {
        @Override
        public void onWebSocketText(String text) {
            EVENTS.add("text " + word(text.getBytes(StandardCharsets.UTF_8)));
        }

        @Override
        public void onWebSocketBinary(byte[] data, int offset, int length) {
            EVENTS.add("binary " + word(java.util.Arrays.copyOfRange(data, offset, offset + length)));
        }

        @Override
        public void onWebSocketClose(int code, String reason) {
            super.onWebSocketClose(code, reason);
            EVENTS.add("closed " + code + " " + word((reason == null ? "" : reason).getBytes(StandardCharsets.UTF_8)));
        }
    }

    static String word(byte[] data) {
        return "=" + Base64.getEncoder().encodeToString(data);
    }

    static byte[] data(String word) {
        return Base64.getDecoder().decode(word.substring(1));
    }

    static Session session;

    static String connect(WebSocketClient client, boolean compresses, String url) throws Exception {
        ClientUpgradeRequest request = new ClientUpgradeRequest();
        if (compresses) {
            request.addExtensions("permessage-deflate");
        }
        EVENTS.clear();
        try {
            session = client.connect(new Socket(), URI.create(url), request).get();
            return "open";
        } catch (ExecutionException error) {
            boolean isRefusal = error.getCause() instanceof UpgradeException;
            return "refused " + (isRefusal ? ((UpgradeException) error.getCause()).getResponseStatusCode() : "-") + " -";
        }
    }

    static String answer(String[] words) throws Exception {
        switch (words[0]) {
            case "receive":
                return EVENTS.take();
            case "text":
                session.getRemote().sendString(new String(data(words[1]), StandardCharsets.UTF_8));
                return "done";
            case "binary":
                session.getRemote().sendBytes(ByteBuffer.wrap(data(words[1])));
                return "done";
            default:
                session.close(Integer.parseInt(words[1]), new String(data(words[2]), StandardCharsets.UTF_8));
                while (!EVENTS.take().startsWith("closed")) {}
                return "done";
        }
    }

    public static void main(String[] arguments) throws Exception {
        WebSocketClient client = new WebSocketClient();
        client.getPolicy().setMaxTextMessageSize(MOST);
        client.getPolicy().setMaxBinaryMessageSize(MOST);
        client.start();
        System.out.println("version " + Jetty.VERSION.replaceFirst("\\.v.*", ""));
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        String line;
        while ((line = lines.readLine()) != null) {
            String[] words = line.split(" ");
            boolean compresses = arguments[0].contains("compressing");
            System.out.println(words[0].equals("connect") ? connect(client, compresses, words[1]) : answer(words));
        }
        System.exit(0);
    }
}
