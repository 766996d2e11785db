package pilvi.hadoop;

import java.io.EOFException;
import java.io.IOException;
import org.apache.hadoop.fs.FSInputStream;
import org.apache.hadoop.fs.FileSystem;

/** An object as a stream: read in blocks that grow while reading goes straight on, and start small again after a jump. */
final class S3Input extends FSInputStream {
    private static final int FIRST_BYTES = 256 << 10;
    private static final int MOST_BYTES = 8 << 20;

    private final S3Client client;
    private final String bucket;
    private final String key;
    private final long size;
    private final String etag;
    private final FileSystem.Statistics statistics;
    private byte[] block = new byte[0];
    private long blockStart;
    private long position;
    private int next = FIRST_BYTES;
    private boolean isClosed;

    S3Input(S3Client client, String bucket, String key, long size, String etag, FileSystem.Statistics statistics) {
        this.client = client;
        this.bucket = bucket;
        this.key = key;
        this.size = size;
        this.etag = etag;
        this.statistics = statistics;
    }

    @Override
    public synchronized void seek(long to) throws IOException {
        if (to < 0 || to > size) {
            throw new EOFException("cannot seek to " + to + " in s3://" + bucket + "/" + key + " of " + size + " bytes");
        }
        position = to;
    }

    @Override
    public synchronized long getPos() {
        return position;
    }

    @Override
    public boolean seekToNewSource(long to) {
        return false;
    }

    @Override
    public synchronized int available() {
        return (int) Math.max(0, Math.min(Integer.MAX_VALUE, blockStart + block.length - position));
    }

    @Override
    public synchronized int read() throws IOException {
        return fill() ? block[(int) (position++ - blockStart)] & 0xff : -1;
    }

    @Override
    public synchronized int read(byte[] buffer, int offset, int length) throws IOException {
        if (length == 0) {
            return 0;
        }
        if (!fill()) {
            return -1;
        }
        int start = (int) (position - blockStart);
        int number = Math.min(length, block.length - start);
        System.arraycopy(block, start, buffer, offset, number);
        position += number;
        return number;
    }

    /** Bytes from elsewhere; the stream stays where it is. */
    @Override
    public int read(long from, byte[] buffer, int offset, int length) throws IOException {
        if (length == 0 || from >= size) {
            return length == 0 ? 0 : -1;
        }
        byte[] found = fetch(from, (int) Math.min(length, size - from));
        System.arraycopy(found, 0, buffer, offset, found.length);
        return found.length;
    }

    @Override
    public synchronized void close() {
        isClosed = true;
        block = new byte[0];
    }

    /** Have the byte at the position in the block; false at the end. */
    private boolean fill() throws IOException {
        if (isClosed) {
            throw new IOException("s3://" + bucket + "/" + key + " is closed");
        }
        if (position >= size) {
            return false;
        }
        long end = blockStart + block.length;
        if (position < blockStart || position >= end) {
            next = position == end && block.length > 0 ? Math.min(next * 2, MOST_BYTES) : FIRST_BYTES;
            block = fetch(position, (int) Math.min(next, size - position));
            blockStart = position;
        }
        return true;
    }

    private byte[] fetch(long from, int length) throws IOException {
        byte[] found = client.get(bucket, key, from, length, etag);
        if (found.length != length) {
            throw new EOFException("s3://" + bucket + "/" + key + " gave " + found.length + " of " + length + " bytes");
        }
        if (statistics != null) {
            statistics.incrementBytesRead(length);
            statistics.incrementReadOps(1);
        }
        return found;
    }
}
