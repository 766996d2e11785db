package pilvi.hadoop;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.net.URI;
import java.net.URLDecoder;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileAlreadyExistsException;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.PathIOException;
import org.apache.hadoop.fs.PathIsNotEmptyDirectoryException;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.security.UserGroupInformation;
import org.apache.hadoop.util.Progressable;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/**
 * S3 as Hadoop sees a file system: s3a://, s3:// and s3n://bucket/key.
 *
 * <p>A folder is there when a key lies below it, or when an empty object "folder/" stands for it. Such markers go as soon as something
 * lies in the folder, so that what Spark writes holds its files only. A rename copies and deletes: it is not atomic.
 */
public final class S3FileSystem extends FileSystem {
    private static final long BLOCK_BYTES = 32L << 20;
    private static final int PAGE = 1000;

    private S3Client client;
    private URI uri;
    private String bucket;
    private Path working;
    private String user;

    @Override
    public void initialize(URI name, Configuration conf) throws IOException {
        super.initialize(name, conf);
        setConf(conf);
        bucket = name.getAuthority();
        if (bucket == null) {
            throw new PathIOException(name.toString(), "there is no bucket in this address");
        }
        uri = URI.create(name.getScheme() + "://" + bucket);
        client = new S3Client(conf);
        working = new Path(uri + "/");
        user = UserGroupInformation.getCurrentUser().getShortUserName();
    }

    @Override
    public URI getUri() {
        return uri;
    }

    @Override
    public int getDefaultPort() {
        return -1;
    }

    @Override
    public long getDefaultBlockSize(Path path) {
        return BLOCK_BYTES;
    }

    @Override
    public Path getWorkingDirectory() {
        return working;
    }

    @Override
    public void setWorkingDirectory(Path path) {
        working = makeQualified(path);
    }

    // -- reading ----------------------------------------------------------------------------------------------------------

    @Override
    public FSDataInputStream open(Path path, int bufferSize) throws IOException {
        Found found = find(path);
        if (found.isFolder) {
            throw new FileNotFoundException(path + " is a directory");
        }
        return new FSDataInputStream(new S3Input(client, bucket, key(path), found.size, found.etag, statistics));
    }

    @Override
    public FileStatus getFileStatus(Path path) throws IOException {
        Found found = find(path);
        return status(path, found.isFolder, found.size, found.modified);
    }

    @Override
    public FileStatus[] listStatus(Path path) throws IOException {
        Found found = find(path);
        if (!found.isFolder) {
            return new FileStatus[] {status(path, false, found.size, found.modified)};
        }
        String prefix = folder(key(path));
        List<FileStatus> children = new ArrayList<>();
        String token = null;
        do {
            Document page = client.list(bucket, prefix, "/", PAGE, token);
            for (Element entry : elements(page, "Contents")) {
                String key = decoded(S3Client.child(entry, "Key"));
                if (!key.equals(prefix) && !key.endsWith("/")) {
                    long modified = Instant.parse(S3Client.child(entry, "LastModified")).toEpochMilli();
                    children.add(status(place(key), false, Long.parseLong(S3Client.child(entry, "Size")), modified));
                }
            }
            for (Element entry : elements(page, "CommonPrefixes")) {
                String key = decoded(S3Client.child(entry, "Prefix"));
                if (!key.substring(prefix.length()).equals("/")) {
                    children.add(status(place(key.substring(0, key.length() - 1)), true, 0, 0));
                }
            }
            token = next(page);
        } while (token != null);
        return children.toArray(new FileStatus[0]);
    }

    // -- writing ----------------------------------------------------------------------------------------------------------

    @Override
    public FSDataOutputStream create(
            Path path, FsPermission permission, boolean overwrite, int bufferSize, short replication, long blockSize, Progressable progress)
            throws IOException {
        String key = key(path);
        try {
            Found found = find(path);
            if (found.isFolder) {
                throw new FileAlreadyExistsException(path + " is a directory");
            }
            if (!overwrite) {
                throw new FileAlreadyExistsException(path + " already exists");
            }
        } catch (FileNotFoundException error) {
            // Nothing is there: what a new file wants.
        }
        S3Output output = new S3Output(client, bucket, key, () -> forgetMarkers(key), statistics);
        return new FSDataOutputStream(output, null);
    }

    @Override
    public FSDataOutputStream append(Path path, int bufferSize, Progressable progress) {
        throw new UnsupportedOperationException("S3 cannot append to an object");
    }

    @Override
    public boolean mkdirs(Path path, FsPermission permission) throws IOException {
        for (Path place = makeQualified(path); place != null && !key(place).isEmpty(); place = place.getParent()) {
            if (client.head(bucket, key(place)) != null) {
                throw new FileAlreadyExistsException(place + " is a file");
            }
        }
        String key = key(path);
        if (!key.isEmpty() && !isFolder(key)) {
            client.put(bucket, folder(key), new byte[0]);
            forgetMarkers(key);
        }
        return true;
    }

    @Override
    public boolean rename(Path source, Path target) throws IOException {
        Found found;
        try {
            found = find(source);
        } catch (FileNotFoundException error) {
            return false;
        }
        String from = key(source);
        String to = key(target);
        if (from.isEmpty()) {
            return false;
        }
        try {
            if (find(target).isFolder) {
                to = folder(to) + source.getName();
            } else {
                return from.equals(to) && !found.isFolder;
            }
        } catch (FileNotFoundException error) {
            // It takes the name as it stands.
        }
        if (from.equals(to)) {
            return true;
        }
        if (!found.isFolder) {
            client.copy(bucket, from, to);
            client.delete(bucket, from);
        } else {
            if (folder(to).startsWith(folder(from))) {
                return false;
            }
            List<String> keys = keysBelow(folder(from));
            for (String key : keys) {
                client.copy(bucket, key, folder(to) + key.substring(folder(from).length()));
            }
            deleteAll(keys);
        }
        forgetMarkers(to);
        return true;
    }

    @Override
    public boolean delete(Path path, boolean recursive) throws IOException {
        String key = key(path);
        Found found;
        try {
            found = find(path);
        } catch (FileNotFoundException error) {
            return false;
        }
        if (!found.isFolder) {
            client.delete(bucket, key);
            return true;
        }
        List<String> keys = keysBelow(folder(key));
        boolean isEmpty = keys.isEmpty() || keys.equals(List.of(folder(key)));
        if (!recursive && !isEmpty) {
            throw new PathIsNotEmptyDirectoryException(path.toString());
        }
        deleteAll(keys);
        return true;
    }

    // -- private ----------------------------------------------------------------------------------------------------------

    private record Found(boolean isFolder, long size, long modified, String etag) {}

    private Found find(Path path) throws IOException {
        String key = key(path);
        if (!key.isEmpty()) {
            HttpResponse<byte[]> head = client.head(bucket, key);
            if (head != null) {
                long size = head.headers().firstValueAsLong("Content-Length").orElse(0);
                String when = head.headers().firstValue("Last-Modified").orElse(null);
                long modified = when == null ? 0 : ZonedDateTime.parse(when, DateTimeFormatter.RFC_1123_DATE_TIME).toInstant().toEpochMilli();
                return new Found(false, size, modified, head.headers().firstValue("ETag").orElse(null));
            }
        }
        if (isFolder(key)) {
            return new Found(true, 0, 0, null);
        }
        throw new FileNotFoundException("No such file or directory: " + path);
    }

    private boolean isFolder(String key) throws IOException {
        Document page = client.list(bucket, folder(key), "", 1, null);
        return key.isEmpty() || page.getElementsByTagName("Contents").getLength() > 0;
    }

    private List<String> keysBelow(String prefix) throws IOException {
        List<String> keys = new ArrayList<>();
        String token = null;
        do {
            Document page = client.list(bucket, prefix, "", PAGE, token);
            for (Element entry : elements(page, "Contents")) {
                keys.add(decoded(S3Client.child(entry, "Key")));
            }
            token = next(page);
        } while (token != null);
        return keys;
    }

    private void deleteAll(List<String> keys) throws IOException {
        for (int start = 0; start < keys.size(); start += PAGE) {
            client.delete(bucket, keys.subList(start, Math.min(start + PAGE, keys.size())));
        }
    }

    /** The markers of all folders above a key, which something lies in now. */
    private void forgetMarkers(String key) throws IOException {
        List<String> markers = new ArrayList<>();
        for (int end = key.lastIndexOf('/'); end > 0; end = key.lastIndexOf('/', end - 1)) {
            markers.add(key.substring(0, end + 1));
        }
        if (!markers.isEmpty()) {
            client.delete(bucket, markers);
        }
    }

    private FileStatus status(Path path, boolean isFolder, long size, long modified) {
        FsPermission permission = FsPermission.createImmutable((short) (isFolder ? 0777 : 0666));
        Path place = makeQualified(path);
        return new FileStatus(size, isFolder, 1, isFolder ? 0 : BLOCK_BYTES, modified, 0, permission, user, user, place);
    }

    private Path place(String key) {
        return new Path(uri.getScheme(), bucket, "/" + key);
    }

    private String key(Path path) {
        String text = makeQualified(path).toUri().getPath();
        return text.startsWith("/") ? text.substring(1) : text;
    }

    private static String folder(String key) {
        return key.isEmpty() || key.endsWith("/") ? key : key + "/";
    }

    private static String next(Document page) {
        String token = S3Client.child(page.getDocumentElement(), "NextContinuationToken");
        return token.isEmpty() ? null : token;
    }

    private static List<Element> elements(Document page, String name) {
        NodeList nodes = page.getElementsByTagName(name);
        List<Element> found = new ArrayList<>();
        for (int number = 0; number < nodes.getLength(); number++) {
            found.add((Element) nodes.item(number));
        }
        return found;
    }

    private static String decoded(String text) {
        return URLDecoder.decode(text, StandardCharsets.UTF_8);
    }
}
