package pilvi.hadoop;

import java.io.IOException;
import java.net.URI;
import java.net.URISyntaxException;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.DelegateToFileSystem;

/** The same for whoever asks by FileContext, as checkpoints of streaming queries do. */
public final class S3 extends DelegateToFileSystem {
    public S3(URI uri, Configuration conf) throws IOException, URISyntaxException {
        super(uri, new S3FileSystem(), conf, uri.getScheme(), false);
    }

    @Override
    public int getUriDefaultPort() {
        return -1;
    }
}
