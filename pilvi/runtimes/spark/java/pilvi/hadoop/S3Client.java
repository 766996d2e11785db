package pilvi.hadoop;

import java.io.ByteArrayInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.xml.parsers.DocumentBuilderFactory;
import org.apache.hadoop.conf.Configuration;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/** The few requests of S3 that a file system needs, signed with Signature Version 4, addressed by path. */
final class S3Client {
    private static final DateTimeFormatter STAMP = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);
    private static final int TRIES = 4;
    private static final Duration PATIENCE = Duration.ofMinutes(5);

    private final HttpClient http =
            HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(Duration.ofSeconds(10)).build();
    private final Configuration conf;
    private final String endpoint;
    private final String region;
    private Keys keys;

    /** Access keys and the moment from which new ones are wanted. */
    private record Keys(String id, String secret, String token, Instant until) {}

    S3Client(Configuration conf) {
        this.conf = conf;
        this.region = first(conf.getTrimmed("fs.s3a.endpoint.region"), System.getenv("AWS_REGION"), System.getenv("AWS_DEFAULT_REGION"), "us-east-1");
        String place = first(
                System.getenv("AWS_ENDPOINT_URL_S3"),
                System.getenv("AWS_ENDPOINT_URL"),
                conf.getTrimmed("fs.s3a.endpoint"),
                "https://s3." + region + ".amazonaws.com");
        this.endpoint = (place.contains("://") ? place : "https://" + place).replaceAll("/+$", "");
    }

    // -- requests ---------------------------------------------------------------------------------------------------------

    /** Headers of an object, or null when there is none. */
    HttpResponse<byte[]> head(String bucket, String key) throws IOException {
        HttpResponse<byte[]> answer = send("HEAD", bucket, key, Map.of(), Map.of(), null);
        return answer.statusCode() == 404 ? null : checked(answer, bucket, key);
    }

    /** Bytes from `from` on, `size` of them or fewer at the object's end; only of the version with this ETag. */
    byte[] get(String bucket, String key, long from, long size, String etag) throws IOException {
        Map<String, String> headers = new TreeMap<>(Map.of("Range", "bytes=" + from + "-" + (from + size - 1)));
        if (etag != null) {
            headers.put("If-Match", etag);
        }
        HttpResponse<byte[]> answer = send("GET", bucket, key, Map.of(), headers, null);
        if (answer.statusCode() == 412) {
            throw new IOException("s3://" + bucket + "/" + key + " was changed while it was being read");
        }
        return checked(answer, bucket, key).body();
    }

    void put(String bucket, String key, byte[] body) throws IOException {
        checked(send("PUT", bucket, key, Map.of(), Map.of(), body), bucket, key);
    }

    void copy(String bucket, String from, String to) throws IOException {
        Map<String, String> source = Map.of("x-amz-copy-source", "/" + bucket + "/" + encoded(from, false));
        HttpResponse<byte[]> answer = checked(send("PUT", bucket, to, Map.of(), source, new byte[0]), bucket, from);
        if (text(answer).contains("<Error>")) {
            throw new IOException("s3://" + bucket + "/" + from + " could not be copied: " + text(answer));
        }
    }

    void delete(String bucket, String key) throws IOException {
        checked(send("DELETE", bucket, key, Map.of(), Map.of(), null), bucket, key);
    }

    /** Delete up to 1,000 keys; those that are not there do not matter. */
    void delete(String bucket, List<String> keys) throws IOException {
        StringBuilder body = new StringBuilder("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
        for (String key : keys) {
            String escaped = key.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;");
            body.append("<Object><Key>").append(escaped).append("</Key></Object>");
        }
        byte[] bytes = body.append("</Delete>").toString().getBytes(StandardCharsets.UTF_8);
        Map<String, String> headers = Map.of("Content-MD5", Base64.getEncoder().encodeToString(digest("MD5", bytes)));
        HttpResponse<byte[]> answer = checked(send("POST", bucket, "", Map.of("delete", ""), headers, bytes), bucket, "");
        if (text(answer).contains("<Error>")) {
            throw new IOException("Objects of s3://" + bucket + " could not be deleted: " + text(answer));
        }
    }

    /** A page of a listing; keys are percent-encoded in it. */
    Document list(String bucket, String prefix, String delimiter, int most, String token) throws IOException {
        Map<String, String> query = new TreeMap<>(
                Map.of("list-type", "2", "prefix", prefix, "max-keys", String.valueOf(most), "encoding-type", "url"));
        if (!delimiter.isEmpty()) {
            query.put("delimiter", delimiter);
        }
        if (token != null) {
            query.put("continuation-token", token);
        }
        return xml(checked(send("GET", bucket, "", query, Map.of(), null), bucket, prefix));
    }

    String beginUpload(String bucket, String key) throws IOException {
        HttpResponse<byte[]> answer = send("POST", bucket, key, Map.of("uploads", ""), Map.of(), new byte[0]);
        return child(xml(checked(answer, bucket, key)).getDocumentElement(), "UploadId");
    }

    /** Send a part; gives its ETag. */
    String part(String bucket, String key, String upload, int number, byte[] body) throws IOException {
        Map<String, String> query = Map.of("partNumber", String.valueOf(number), "uploadId", upload);
        return checked(send("PUT", bucket, key, query, Map.of(), body), bucket, key).headers().firstValue("ETag").orElseThrow();
    }

    void completeUpload(String bucket, String key, String upload, List<String> etags) throws IOException {
        StringBuilder body = new StringBuilder("<CompleteMultipartUpload>");
        for (int number = 1; number <= etags.size(); number++) {
            body.append("<Part><PartNumber>").append(number).append("</PartNumber><ETag>").append(etags.get(number - 1)).append("</ETag></Part>");
        }
        byte[] bytes = body.append("</CompleteMultipartUpload>").toString().getBytes(StandardCharsets.UTF_8);
        HttpResponse<byte[]> answer = checked(send("POST", bucket, key, Map.of("uploadId", upload), Map.of(), bytes), bucket, key);
        if (text(answer).contains("<Error>")) {
            throw new IOException("s3://" + bucket + "/" + key + " could not be completed: " + text(answer));
        }
    }

    void abortUpload(String bucket, String key, String upload) throws IOException {
        checked(send("DELETE", bucket, key, Map.of("uploadId", upload), Map.of(), null), bucket, key);
    }

    // -- sending ----------------------------------------------------------------------------------------------------------

    private HttpResponse<byte[]> send(
            String method, String bucket, String key, Map<String, String> query, Map<String, String> headers, byte[] body)
            throws IOException {
        IOException last = null;
        for (int number = 0; number < TRIES; number++) {
            try {
                if (number > 0) {
                    Thread.sleep(100L << number);
                }
                HttpRequest request = signed(method, bucket, key, new TreeMap<>(query), new TreeMap<>(headers), body);
                HttpResponse<byte[]> answer = http.send(request, HttpResponse.BodyHandlers.ofByteArray());
                if (answer.statusCode() < 500 || number == TRIES - 1) {
                    return answer;
                }
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
                throw new InterruptedIOException("interrupted while talking to S3");
            } catch (IOException error) {
                last = error;
            }
        }
        throw last == null ? new IOException(endpoint + " does not answer") : last;
    }

    private HttpRequest signed(
            String method, String bucket, String key, TreeMap<String, String> query, TreeMap<String, String> extra, byte[] body)
            throws IOException {
        String path = "/" + bucket + (key.isEmpty() ? "" : "/" + encoded(key, false));
        StringBuilder words = new StringBuilder();
        query.forEach((name, value) -> words.append(words.isEmpty() ? "" : "&").append(encoded(name, true)).append("=").append(encoded(value, true)));
        URI uri = URI.create(endpoint + path + (words.isEmpty() ? "" : "?" + words));
        Keys now = keys();
        String stamp = STAMP.format(Instant.now());
        TreeMap<String, String> headers = new TreeMap<>();
        extra.forEach((name, value) -> headers.put(name.toLowerCase(), value));
        headers.put("x-amz-date", stamp);
        headers.put("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
        if (!now.token.isEmpty()) {
            headers.put("x-amz-security-token", now.token);
        }
        HttpRequest.Builder request = HttpRequest.newBuilder(uri).timeout(PATIENCE);
        headers.forEach(request::header);
        request.header("Authorization", authorization(method, uri, path, words.toString(), headers, stamp, now));
        return request.method(method, body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofByteArray(body)).build();
    }

    /** Source: Amazon S3 API reference, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)". */
    private String authorization(
            String method, URI uri, String path, String query, TreeMap<String, String> headers, String stamp, Keys now) throws IOException {
        TreeMap<String, String> signed = new TreeMap<>(headers);
        signed.put("host", uri.getAuthority());
        StringBuilder lines = new StringBuilder();
        signed.forEach((name, value) -> lines.append(name).append(":").append(value.trim()).append("\n"));
        String names = String.join(";", signed.keySet());
        String request = String.join("\n", method, path, query, lines.toString(), names, "UNSIGNED-PAYLOAD");
        String scope = stamp.substring(0, 8) + "/" + region + "/s3/aws4_request";
        String text = String.join("\n", "AWS4-HMAC-SHA256", stamp, scope, hex(digest("SHA-256", request.getBytes(StandardCharsets.UTF_8))));
        byte[] key = ("AWS4" + now.secret).getBytes(StandardCharsets.UTF_8);
        for (String step : scope.split("/")) {
            key = hmac(key, step);
        }
        return "AWS4-HMAC-SHA256 Credential=" + now.id + "/" + scope + ", SignedHeaders=" + names + ", Signature=" + hex(hmac(key, text));
    }

    // -- keys -------------------------------------------------------------------------------------------------------------

    /** From the configuration, the environment, or the container's credentials address, in this order. */
    private synchronized Keys keys() throws IOException {
        if (keys != null && Instant.now().isBefore(keys.until)) {
            return keys;
        }
        String id = conf.getTrimmed("fs.s3a.access.key", "");
        if (!id.isEmpty()) {
            keys = new Keys(id, conf.getTrimmed("fs.s3a.secret.key", ""), conf.getTrimmed("fs.s3a.session.token", ""), Instant.MAX);
        } else if (System.getenv("AWS_ACCESS_KEY_ID") != null) {
            keys = new Keys(System.getenv("AWS_ACCESS_KEY_ID"), first(System.getenv("AWS_SECRET_ACCESS_KEY"), ""), first(System.getenv("AWS_SESSION_TOKEN"), ""), Instant.MAX);
        } else if (System.getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != null) {
            keys = containerKeys(URI.create(System.getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")));
        } else {
            throw new AccessDeniedException("There are no AWS credentials: neither fs.s3a.access.key nor AWS_ACCESS_KEY_ID is set.");
        }
        return keys;
    }

    private Keys containerKeys(URI address) throws IOException {
        String token = System.getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        String file = System.getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        HttpRequest.Builder request = HttpRequest.newBuilder(address).timeout(Duration.ofSeconds(30));
        if (token != null || file != null) {
            request.header("Authorization", file == null ? token : Files.readString(Path.of(file)).trim());
        }
        try {
            String said = http.send(request.build(), HttpResponse.BodyHandlers.ofString()).body();
            Instant until = Instant.parse(member(said, "Expiration")).minusSeconds(300);
            return new Keys(member(said, "AccessKeyId"), member(said, "SecretAccessKey"), member(said, "Token"), until);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new InterruptedIOException("interrupted while asking for credentials");
        }
    }

    /** One text of a flat JSON object. */
    private static String member(String json, String name) throws IOException {
        Matcher match = Pattern.compile("\"" + name + "\"\\s*:\\s*\"([^\"]*)\"").matcher(json);
        if (!match.find()) {
            throw new IOException("the container's credentials have no " + name);
        }
        return match.group(1).replace("\\/", "/");
    }

    // -- private ----------------------------------------------------------------------------------------------------------

    private static HttpResponse<byte[]> checked(HttpResponse<byte[]> answer, String bucket, String key) throws IOException {
        int status = answer.statusCode();
        if (status < 300) {
            return answer;
        }
        String place = "s3://" + bucket + "/" + key;
        String said = place + ": " + status + " " + text(answer).replaceAll("(?s)<\\?xml.*?\\?>|<RequestId>.*?</RequestId>|<[^>]*>", " ").trim();
        if (status == 404) {
            throw new FileNotFoundException(said);
        }
        if (status == 403) {
            throw new AccessDeniedException(place, null, said);
        }
        throw new IOException(said);
    }

    private static String text(HttpResponse<byte[]> answer) {
        return new String(answer.body(), StandardCharsets.UTF_8);
    }

    private static Document xml(HttpResponse<byte[]> answer) throws IOException {
        try {
            DocumentBuilderFactory factory = DocumentBuilderFactory.newDefaultInstance();
            factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
            return factory.newDocumentBuilder().parse(new ByteArrayInputStream(answer.body()));
        } catch (Exception error) {
            throw new IOException("S3 answered with something that is not XML", error);
        }
    }

    static String child(Element parent, String name) {
        NodeList found = parent.getElementsByTagName(name);
        return found.getLength() == 0 ? "" : found.item(0).getTextContent();
    }

    private static String encoded(String text, boolean hasSlashes) {
        String found = URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20").replace("*", "%2A").replace("%7E", "~");
        return hasSlashes ? found : found.replace("%2F", "/");
    }

    private static String first(String... found) {
        for (String text : found) {
            if (text != null && !text.isEmpty()) {
                return text;
            }
        }
        return "";
    }

    private static byte[] digest(String name, byte[] data) throws IOException {
        try {
            return MessageDigest.getInstance(name).digest(data);
        } catch (GeneralSecurityException error) {
            throw new IOException(error);
        }
    }

    private static byte[] hmac(byte[] key, String text) throws IOException {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
        } catch (GeneralSecurityException error) {
            throw new IOException(error);
        }
    }

    private static String hex(byte[] data) {
        return HexFormat.of().formatHex(data);
    }
}
