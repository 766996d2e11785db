package pilvi.hadoop;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.util.ArrayList;
import java.util.List;
import org.apache.hadoop.fs.FileSystem;

/** An object being written: in one piece when it is small, else part by part. It is there only when it has been closed well. */
final class S3Output extends OutputStream {
    private static final int PART_BYTES = 8 << 20;
    /** S3 takes 10,000 parts: from here on every part is larger, so that objects of 5 TiB come through. */
    private static final int PARTS_OF_ONE_SIZE = 1000;

    /** What follows a file that has been written. */
    interface Done {
        void run() throws IOException;
    }

    private final S3Client client;
    private final String bucket;
    private final String key;
    private final Done done;
    private final FileSystem.Statistics statistics;
    private final List<String> etags = new ArrayList<>();
    private ByteArrayOutputStream buffer = new ByteArrayOutputStream();
    private String upload;
    private boolean isClosed;

    S3Output(S3Client client, String bucket, String key, Done done, FileSystem.Statistics statistics) {
        this.client = client;
        this.bucket = bucket;
        this.key = key;
        this.done = done;
        this.statistics = statistics;
    }

    @Override
    public synchronized void write(int value) throws IOException {
        write(new byte[] {(byte) value}, 0, 1);
    }

    @Override
    public synchronized void write(byte[] data, int offset, int length) throws IOException {
        if (isClosed) {
            throw new IOException("s3://" + bucket + "/" + key + " is closed");
        }
        buffer.write(data, offset, length);
        if (buffer.size() >= partBytes()) {
            sendPart();
        }
    }

    @Override
    public synchronized void close() throws IOException {
        if (isClosed) {
            return;
        }
        isClosed = true;
        if (upload == null) {
            count(buffer.size());
            client.put(bucket, key, buffer.toByteArray());
        } else {
            if (buffer.size() > 0) {
                sendPart();
            }
            client.completeUpload(bucket, key, upload, etags);
        }
        buffer = new ByteArrayOutputStream(0);
        done.run();
    }

    private long partBytes() {
        return Math.min((long) PART_BYTES << (etags.size() / PARTS_OF_ONE_SIZE), 1L << 30);
    }

    private void sendPart() throws IOException {
        if (upload == null) {
            upload = client.beginUpload(bucket, key);
        }
        try {
            count(buffer.size());
            etags.add(client.part(bucket, key, upload, etags.size() + 1, buffer.toByteArray()));
        } catch (IOException error) {
            isClosed = true;
            client.abortUpload(bucket, key, upload);
            throw error;
        }
        buffer.reset();
    }

    private void count(int bytes) {
        if (statistics != null) {
            statistics.incrementBytesWritten(bytes);
            statistics.incrementWriteOps(1);
        }
    }
}
